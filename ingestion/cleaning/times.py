"""Events of the wrong time: out of range, in the future; and how many are out of order."""

from datetime import datetime, timedelta
from pathlib import Path

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.cleaning.rule import REASON, Rule
from ingestion.cleaning.settings import CleaningConfig, moment
from ingestion.engines.base import Keep
from recommender import schema

BEFORE, AFTER = "before the earliest time", "after the latest time"
FUTURE = "in the future"
_UTC = dt.Timestamp(timezone="UTC", scale=6)


def out_of_time(config: CleaningConfig, now: datetime) -> list[Rule]:
    """The rules on an event's own time.

    Args:
        now: the moment of ingestion.
    """
    rules = []
    if config.earliest:
        rules.append(_rule("earliest", moment(config.earliest), None, BEFORE, bad=False))
    if config.latest:
        rules.append(_rule("latest", None, moment(config.latest), AFTER, bad=False))
    if config.max_future_days is not None:
        limit = now + timedelta(days=config.max_future_days)
        rules.append(_rule("max_future_days", None, limit, FUTURE, bad=True))
    return rules


def newest_possible(config: CleaningConfig, now: datetime) -> datetime:
    """Up to which time an event is believed where others are judged by the newest one.

    Beyond `latest`, or more than `max_future_days` (a day, where that is not set) ahead of the
    clock, a time is wrong: by it everything else would be too old.
    """
    limit = now + timedelta(days=1 if config.max_future_days is None else config.max_future_days)
    return limit if config.latest is None else min(limit, moment(config.latest))


def _rule(
    name: str, first: datetime | None, last: datetime | None, reason: str, *, bad: bool
) -> Rule:
    """Drops events before `first` or after `last`; an event at either of them stays."""

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        time = usable[schema.TIMESTAMP]
        wrong = time < ibis.literal(first, _UTC) if first else time > ibis.literal(last, _UTC)
        return usable.filter(wrong).select(schema.POSITION, **{REASON: ibis.literal(reason)})

    return Rule(name, drops, counts_as_rejected=bad)


def out_of_order(events: Path) -> int:
    """How many events stand in the source behind a later one of the same user.

    They are no error, for events are sorted by time: many of them tell of a source that merges
    partitions carelessly, or of clocks that disagree.

    Args:
        events: events.parquet of a snapshot, sorted by user, time and position. It is read once,
            a row group at a time from the last to the first.
    """
    # Sorted by time, an event is out of order where a smaller position follows among its user's.
    total = 0
    user, smallest = None, 0  # of the rows read so far: their first user, its smallest position
    file = pq.ParquetFile(events)
    for group in reversed(range(file.num_row_groups)):
        rows = file.read_row_group(group, [schema.USER_ID, schema.POSITION])
        if not rows.num_rows:
            continue
        count, user, smallest = _behind(rows, user, smallest)
        total += count
    return total


def _behind(rows: pa.Table, next_user: str | None, next_smallest: int) -> tuple[int, str, int]:
    """(rows out of order, first user, smallest position of that user from here on)."""
    runs = pc.run_end_encode(rows[schema.USER_ID].combine_chunks())
    ends = np.asarray(runs.run_ends)
    number = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    position = rows[schema.POSITION].to_numpy()
    if runs.values[-1].as_py() == next_user:
        position = np.append(position, next_smallest)
        number = np.append(number, number[-1])
    # Of later users everything is larger, so that one minimum from behind serves all users.
    key = number * (position.max() + 1) + position
    smallest = np.minimum.accumulate(key[::-1])[::-1]
    first = int(smallest[0] % (position.max() + 1))
    return int((smallest < key).sum()), runs.values[0].as_py(), first
