"""Rows that must not be kept for longer: the retention window as a rule like any other."""

from datetime import UTC, datetime

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import REASON, Rule
from ingestion.cleaning.times import newest_possible
from ingestion.engines.base import Keep
from ingestion.sources import SourceConfig
from recommender import schema

RETENTION = "retention"
# Rules that say what must be forgotten: their rejects have position and reason, and no content.
FORGETTING = frozenset({RETENTION})


def privacy_rules(config: SourceConfig) -> list[Rule]:
    """Of the events; they come before any other rule."""
    days = config.privacy.retention_days
    if days is None:
        return []

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        old = _older(usable, _newest(usable, config, keep), days)
        reason = ibis.literal(f"older than {days:g} days (retention)")
        return old.select(schema.POSITION, reason=reason)

    return [Rule(RETENTION, drops, counts_as_rejected=False)]


def expired_rejects(config: SourceConfig, checked: ir.Table, keep: Keep) -> ir.Table | None:
    """Positions of rows that cannot be used and are too old to be kept among the rejects.

    Args:
        checked: mapped events, with a reason where a row cannot be used.
    """
    days = config.privacy.retention_days
    if days is None:
        return None
    newest = _newest(checked.filter(checked[REASON].isnull()), config, keep)
    return _older(checked.filter(checked[REASON].notnull()), newest, days).select(schema.POSITION)


def _newest(usable: ir.Table, config: SourceConfig, keep: Keep) -> ir.Table:
    """The time from which the window is counted: of the newest event, as a table of one row.

    Not today, so that the same source gives the same rows on any day.
    """
    limit = newest_possible(config.cleaning, datetime.now(UTC))
    times = usable.select(schema.TIMESTAMP).filter(usable[schema.TIMESTAMP] <= limit)
    return keep("newest_event", times.agg(newest=times[schema.TIMESTAMP].max()))


def _older(events: ir.Table, newest: ir.Table, days: float) -> ir.Table:
    window = ibis.interval(seconds=round(days * 86_400))
    compared = events.select(schema.POSITION, schema.TIMESTAMP).cross_join(newest)
    return compared.filter(compared[schema.TIMESTAMP] < compared["newest"] - window)
