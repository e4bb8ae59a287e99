"""Users whose events no person makes: too many in too little time, or always the same item."""

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import REASON, Rule
from ingestion.cleaning.settings import BotsConfig
from ingestion.engines.base import Keep
from recommender import schema

_EVENTS, _LIMIT = "__events", "__limit"
# In the order in which a user that breaks several is told to break one.
_LIMITS = ("max_events_per_minute", "max_events_per_day", "max_events", "min_distinct_share")


def reason_of(limit: str) -> str:
    """Why an event is dropped whose user breaks `limit`, by its name in BotsConfig."""
    return f"bot by {limit}"


def bots(config: BotsConfig) -> Rule | None:
    """Drops all events of users that break a limit; None where there is no limit."""
    if not any(getattr(config, limit) for limit in _LIMITS):
        return None

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        events = usable.group_by(schema.USER_ID).agg(**{_EVENTS: usable.count()})
        totals = keep("bot_totals", events)
        broken = [
            users.select(schema.USER_ID, **{_LIMIT: ibis.literal(_LIMITS.index(limit), "int64")})
            for limit, users in _broken(usable, totals, config)
        ]
        every = ibis.union(*broken) if len(broken) > 1 else broken[0]
        first = every.group_by(schema.USER_ID).agg(**{_LIMIT: every[_LIMIT].min()})
        users = keep("bot_users", first)
        reasons = [(users[_LIMIT] == n, reason_of(limit)) for n, limit in enumerate(_LIMITS)]
        users = users.select(schema.USER_ID, **{REASON: ibis.cases(*reasons)})
        return (
            usable.select(schema.USER_ID, schema.POSITION)
            .join(users, schema.USER_ID)
            .select(schema.POSITION, REASON)
        )

    return Rule("bots", drops, counts_as_rejected=False)


def _broken(usable: ir.Table, totals: ir.Table, config: BotsConfig) -> list[tuple[str, ir.Table]]:
    """Each configured limit, and the users that break it."""
    events = usable.select(schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)

    def of_users_with(least: int) -> ir.Table:
        # Only who has so many events in all can have them in a minute: most are out at once.
        often = totals.filter(totals[_EVENTS] >= least)
        return events.semi_join(often, schema.USER_ID)

    broken: list[tuple[str, ir.Table]] = []
    for limit, unit in (("max_events_per_minute", "m"), ("max_events_per_day", "D")):
        most = getattr(config, limit)
        if most is not None:
            rows = of_users_with(most + 1)
            rows = rows.mutate(unit=rows[schema.TIMESTAMP].truncate(unit))
            units = rows.group_by(schema.USER_ID, "unit").agg(**{_EVENTS: rows.count()})
            broken.append((limit, units.filter(units[_EVENTS] > most)))
    if config.max_events is not None:
        broken.append(("max_events", totals.filter(totals[_EVENTS] > config.max_events)))
    if config.min_distinct_share is not None:
        rows = of_users_with(config.min_events)
        users = rows.group_by(schema.USER_ID).agg(
            events=rows.count(), items=rows[schema.ITEM_ID].nunique()
        )
        few = users["items"] < users["events"] * config.min_distinct_share
        broken.append(("min_distinct_share", users.filter(few)))
    return broken
