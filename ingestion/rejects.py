"""Rows that cannot be used: counted by reason, and too many of them stop the run."""

import json
from dataclasses import dataclass, field

import ibis.expr.types as ir

from ingestion.errors import IngestError
from ingestion.reading.raw import MALFORMED, RawTable
from ingestion.sources import EventsSource
from recommender import schema

_SAMPLES = 3
# reason: (our column it concerns, what to do about it; {table} and {unit} are filled in)
_ADVICE = {
    "unparseable timestamp": (
        schema.TIMESTAMP,
        "it was read as {unit}; set source.{table}.time_unit to s, ms, us, ns or iso, or "
        "source.{table}.time_format",
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
    "in the future": (
        schema.TIMESTAMP,
        "it was read as {unit}; set source.{table}.time_unit or time_format right, or raise "
        "source.cleaning.max_future_days",
    ),
    "exact duplicate": (schema.USER_ID, "export every event once"),
}


@dataclass
class Outcome:
    """What became of a raw table's rows; kept, rejected and filtered ones are those read."""

    raw: RawTable
    rejected: ir.Table  # of recommender.schema.REJECTS
    reasons: dict[str, int] = field(default_factory=dict)  # most frequent first
    filtered: dict[str, int] = field(default_factory=dict)  # by filter
    excused: set[str] = field(default_factory=set)  # reasons that are no fault of the data

    @property
    def kept(self) -> int:
        return self.raw.rows - sum(self.reasons.values()) - sum(self.filtered.values())


def check_rejects(outcome: Outcome, limit: float) -> None:
    """Raise IngestError if more than `limit` of a table's rows are rejected, or all of them."""
    raw = outcome.raw
    faults = {
        reason: rows for reason, rows in outcome.reasons.items() if reason not in outcome.excused
    }
    # Lines that a quote has swallowed were rows, though nobody can tell how many.
    read = raw.rows - sum(outcome.filtered.values()) + raw.swallowed
    share = (sum(faults.values()) + raw.swallowed) / max(1, read)
    if share <= limit and outcome.kept:
        return
    lines = [
        f"{raw.table}: {sum(faults.values()):,} of {raw.rows:,} rows cannot be used "
        f"({share:.1%}; source.max_reject_fraction allows {limit:.1%})"
    ]
    if raw.swallowed:
        lines.append(
            f"  {raw.swallowed:,} more lines are inside malformed ones: a quote before them is "
            f"never closed; close it, or set source.{raw.table}.quote to ''"
        )
    if not outcome.kept:
        lines += [
            f"  no row is left; {reason}: {rows:,} rows"
            for reason, rows in outcome.filtered.items()
        ]
        faults = outcome.reasons
    lines += [f"  {_describe(outcome, reason)}" for reason in list(faults)[:3]]
    raise IngestError("\n".join(lines))


def _samples(outcome: Outcome, reason: str) -> list[tuple[int, str]]:
    """(position, row as JSON) of the first rows rejected for a reason."""
    of_reason = outcome.rejected.filter(outcome.rejected["reason"] == reason)
    rows = of_reason.order_by(schema.POSITION).limit(_SAMPLES).execute()
    return list(zip(rows[schema.POSITION], rows["row"], strict=True))


def _describe(outcome: Outcome, reason: str) -> str:
    """One line: reason, count, column, values with their places, what to do."""
    raw = outcome.raw
    by_default = (
        "check the file, and source.{table}.delimiter and quote"
        if reason.startswith(MALFORMED)
        else "it is what source.cleaning, privacy or quarantine asks for: ask for less"
    )
    ours, advice = _ADVICE.get(reason, ("", by_default))
    theirs = raw.source.columns.get(ours, "")
    examples = []
    for position, row in _samples(outcome, reason):
        content = json.loads(row)
        value = content.get(theirs, row) if theirs else row
        examples.append(f"{str(value)[:80]!r} ({raw.place(position)})")
    unit = ""
    if isinstance(raw.source, EventsSource):
        pattern = raw.source.time_format
        unit = f"time_format '{pattern}'" if pattern else f"time_unit '{raw.source.time_unit}'"
    column = f" in column '{theirs}'" if theirs else ""
    return (
        f"{reason}{column}: {outcome.reasons[reason]:,} rows, such as {', '.join(examples)}; "
        + advice.format(table=raw.table, unit=unit)
    )
