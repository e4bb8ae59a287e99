"""Rows that cannot be used: counted by reason, and too many of them stop the run."""

import json
from dataclasses import dataclass, field
from typing import Any

from ingestion.errors import IngestError
from ingestion.reading.raw import RawTable
from ingestion.sources import EventsSource
from recommender import schema

_SAMPLES = 3
# reason: (our column it concerns, what to do about it; {table} and {unit} are filled in)
_ADVICE = {
    "unparseable timestamp": (
        schema.TIMESTAMP,
        "it was read as time_unit '{unit}'; set source.{table}.time_unit to s, ms, us or iso",
    ),
    "value is not a number": (schema.VALUE, "map another column, or drop `value` from columns"),
    "unknown item": (schema.ITEM_ID, "add these items to the items table, or drop the events"),
    "unknown user": (schema.USER_ID, "add these users to the users table, or drop `users`"),
    "missing user_id": (schema.USER_ID, "give every row one"),
    "missing item_id": (schema.ITEM_ID, "give every row one"),
    "missing title": (schema.TITLE, "give every item one, or map another column"),
    "no text": (schema.TEXT, "name columns in source.{table}.text that the items fill"),
    "missing event_type": (schema.EVENT_TYPE, "fill it, or drop `event_type` from columns"),
    "duplicate item_id": (schema.ITEM_ID, "keep one row an item"),
    "duplicate user_id": (schema.USER_ID, "keep one row a user"),
    "exact duplicate": (schema.USER_ID, "export every event once"),
}


@dataclass
class Rejected:
    """What became of a raw table's rows."""

    raw: RawTable
    kept: int
    reasons: dict[str, int] = field(default_factory=dict)  # most frequent first
    samples: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # position, row as JSON

    @property
    def total(self) -> int:
        return sum(self.reasons.values())

    def count(self, rejected: Any) -> None:
        """Fill in reasons and samples from an Ibis table (position, reason, row)."""
        counts = rejected.group_by("reason").agg(rows=rejected.count()).execute()
        pairs = zip(counts["reason"], counts["rows"], strict=True)
        self.reasons = {
            reason: int(rows) for reason, rows in sorted(pairs, key=lambda p: (-p[1], p[0]))
        }
        for reason in self.reasons:
            of_reason = rejected.filter(rejected["reason"] == reason)
            rows = of_reason.order_by(schema.POSITION).limit(_SAMPLES).execute()
            self.samples[reason] = list(zip(rows[schema.POSITION], rows["row"], strict=True))


def check_rejects(outcome: Rejected, limit: float) -> None:
    """Raise IngestError if more than `limit` of a table's rows are rejected, or all of them."""
    raw = outcome.raw
    share = outcome.total / raw.rows
    if share <= limit and outcome.kept:
        return
    lines = [
        f"{raw.table}: {outcome.total:,} of {raw.rows:,} rows cannot be used "
        f"({share:.1%}; source.max_reject_fraction allows {limit:.1%})"
    ]
    lines += [f"  {_describe(outcome, reason)}" for reason in list(outcome.reasons)[:3]]
    raise IngestError("\n".join(lines))


def _describe(outcome: Rejected, reason: str) -> str:
    """One line: reason, count, column, values with their places, what to do."""
    raw = outcome.raw
    ours, advice = _ADVICE.get(
        reason, ("", "check the file, and source.{table}.delimiter and quote")
    )
    theirs = raw.source.columns.get(ours, "")
    examples = []
    for position, row in outcome.samples[reason]:
        content = json.loads(row)
        value = content.get(theirs, row) if theirs else row
        examples.append(f"{str(value)[:80]!r} ({raw.place(position)})")
    unit = raw.source.time_unit if isinstance(raw.source, EventsSource) else ""
    column = f" in column '{theirs}'" if theirs else ""
    return (
        f"{reason}{column}: {outcome.reasons[reason]:,} rows, such as {', '.join(examples)}; "
        + advice.format(table=raw.table, unit=unit)
    )
