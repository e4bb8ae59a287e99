"""events.parquet: every event once, by user and time."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ibis.expr.types as ir
import pyarrow as pa

from feature_repo.config import EVENT_TIME
from feature_repo.offline.events import (
    NUMBER,
    RANK,
    TIME_US,
    Numbered,
    named_events,
    newest,
    timed_events,
)
from recommender import schema
from recommender.engines.base import TableEngine
from recommender.engines.parquet import row_groups

UTC = pa.timestamp("us", tz="UTC")
TIMED = pa.schema(
    [
        (schema.USER_ID, pa.string()),
        (schema.ITEM_ID, pa.string()),
        (schema.TIMESTAMP, UTC),
        (RANK, pa.int64()),  # among the user's events of that microsecond, from 0
        (EVENT_TIME, UTC),
    ]
)
ROWS = 131_072  # a row group


class EventLog(NamedTuple):
    """What was written, and the same on the engine."""

    parts: list[ir.Table]  # of timed_events
    rows: int
    longest: int  # events of the user who has most
    covered_until_us: int  # the newest time that is believed, µs since 1970


def write_events(
    engine: TableEngine,
    events: ir.Table,
    ids: Numbered,
    path: Path,
    tell: Callable[[str], None] = lambda message: None,
) -> EventLog:
    """Write a snapshot's events, part by part; there is at least one."""
    timed, facts = [], []
    parts = range(len(ids.parts))
    with row_groups(path, TIMED, ROWS) as file:
        for part in parts:
            tell(f"events in time{of_parts(part, parts)}")
            own = timed_events(engine, events, ids, part)
            file.add(engine.batches(named_events(engine, own, ids), ROWS))
            sound, last = newest(own[TIME_US])
            facts += (
                own.agg(most=own[NUMBER].max(), sound=sound, last=last).to_pyarrow().to_pylist()
            )
            timed.append(own)
    believed = [fact["sound"] for fact in facts if fact["sound"] is not None]
    covered = max(believed or [fact["last"] for fact in facts])
    return EventLog(timed, file.total, max(fact["most"] for fact in facts), covered)


def of_parts(part: int, parts: range) -> str:
    """Which part is under way, for a line of progress."""
    return f", part {part + 1} of {len(parts)}" if len(parts) > 1 else ""
