"""Tables to try the rules of cleaning on, on any engine; what the rules mean in plain Python."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from ingestion.cleaning.rule import Rule
from recommender import schema

START = datetime(2024, 3, 1, tzinfo=UTC)
Event = tuple[str, str, float]  # user, item, seconds after START


def events_table(events: list[Event], types: list[str] | None = None) -> pa.Table:
    """Events as mapped, in the order of the source."""
    return pa.table(
        {
            schema.USER_ID: [user for user, _, _ in events],
            schema.ITEM_ID: [item for _, item, _ in events],
            schema.TIMESTAMP: pa.array(
                [START + timedelta(seconds=seconds) for _, _, seconds in events],
                pa.timestamp("us", "UTC"),
            ),
            schema.EVENT_TYPE: types or ["view"] * len(events),
            schema.VALUE: pa.array([1.0] * len(events), pa.float64()),
            schema.POSITION: pa.array(range(len(events)), pa.int64()),
        },
        schema=schema.EVENTS,
    )


def dropped(engine: Any, rule: Rule, table: pa.Table) -> dict[int, str]:
    """Position: reason of the rows of `table` that `rule` drops, each position once."""
    usable = engine.keep("usable", ibis.memtable(table))
    rows = engine.keep("dropped", rule.drops(usable, engine.keep)).execute()
    reasons = dict(zip(rows[schema.POSITION].tolist(), rows["reason"].tolist(), strict=True))
    assert len(reasons) == len(rows), "a position is dropped twice"
    assert set(reasons) <= set(table[schema.POSITION].to_pylist())
    return reasons


def without(table: pa.Table, positions: Any) -> pa.Table:
    kept = [p not in positions for p in table[schema.POSITION].to_pylist()]
    return table.filter(pa.array(kept, pa.bool_()))


def repeats(events: list[Event], window_s: float, types: list[str] | None = None) -> set[int]:
    """Positions of the events at most `window_s` after the last kept one of their kind."""
    kinds = defaultdict(list)
    for position, (user, item, seconds) in enumerate(events):
        kind = types[position] if types else "view"
        kinds[user, item, kind].append((seconds, position))
    gone = set()
    for rows in kinds.values():
        kept = None
        for seconds, position in sorted(rows):
            if kept is not None and seconds - kept <= window_s:
                gone.add(position)
            else:
                kept = seconds
    return gone
