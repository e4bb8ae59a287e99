"""Rows that must not be kept for longer: the retention window as a rule like any other."""

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import Rule
from ingestion.cleaning.settings import moment
from ingestion.engines.base import Keep
from ingestion.sources import SourceConfig
from recommender import schema

RETENTION = "retention"
# Rules that say what must be forgotten: their rejects have position and reason, and no content.
FORGETTING = frozenset({RETENTION})


def privacy_rules(config: SourceConfig) -> list[Rule]:
    """Of the events; they come before rules that look at all that a user did."""
    days = config.privacy.retention_days
    return [] if days is None else [_retention(days, config.cleaning.latest)]


def _retention(days: float, latest: str | None) -> Rule:
    """Counted from the newest event, so that the same source gives the same rows on any day.

    Args:
        latest: ISO time; events beyond it are out of range, and none of them is the newest.
    """
    reason = f"older than {days:g} days (retention)"
    window = ibis.interval(seconds=round(days * 86_400))

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        moments = usable.select(schema.POSITION, schema.TIMESTAMP)
        if latest is not None:
            moments = moments.filter(moments[schema.TIMESTAMP] <= moment(latest))
        newest = keep("newest_event", moments.agg(newest=moments[schema.TIMESTAMP].max()))
        compared = moments.cross_join(newest)
        old = compared.filter(compared[schema.TIMESTAMP] < compared["newest"] - window)
        return old.select(schema.POSITION, reason=ibis.literal(reason))

    return Rule(RETENTION, drops, counts_as_rejected=False)
