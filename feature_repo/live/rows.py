"""Rows of the view `user_history` as sets of events, and new events merged into them.

A row holds an event's item, time and rank at the same place of `history`, `history_times` and
`history_ranks`. Rows of before there were times hold items alone: theirs are then the row's own
time for the last event, and the microseconds before it for those before, which keeps their order
and puts what is newer behind them. They are wrong by as much as the events lie apart, so the same
event that comes again is not known for the same; the next materialisation puts real ones there.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from feature_repo.live.merge import Entry, merge
from feature_repo.live.outcomes import APPLIED, DUPLICATE, TOO_OLD
from feature_repo.stores.base import OnlineRow
from feature_repo.stores.layout import EPOCH, from_us, to_us

HISTORY, TIMES, RANKS = "history", "history_times", "history_ranks"
COUNT, LAST = "event_count", "last_event_time"


class Merged(NamedTuple):
    """What new events make of a row."""

    row: OnlineRow | None  # None: nothing to write, it is as it was
    outcomes: list[str]  # of each new event: APPLIED, DUPLICATE or TOO_OLD
    untimed: bool  # the row had events without times


def row_of(entries: Sequence[Entry]) -> OnlineRow:
    """The row of a history, oldest first, of at least one event."""
    return _row(
        [each.item for each in entries],
        [each.time_us for each in entries],
        [each.rank for each in entries],
    )


def _row(items: Sequence[str], times: Sequence[int], ranks: Sequence[int]) -> OnlineRow:
    from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value

    values = {
        HISTORY: Value(string_list_val=StringList(val=items)),
        TIMES: Value(int64_list_val=Int64List(val=times)),
        RANKS: Value(int64_list_val=Int64List(val=ranks)),
        COUNT: Value(int64_val=len(items)),
        LAST: Value(unix_timestamp_val=times[-1] // 1_000_000),
    }
    return OnlineRow(from_us(times[-1]), values)


def entries_of(row: OnlineRow | None) -> tuple[list[Entry], bool]:
    """A row's events, oldest first; and whether their times are made up (see above)."""
    if row is None:
        return [], False
    items, times, ranks = _lists(row)
    if len(times) == len(items):
        if len(ranks) != len(items):
            ranks = [0] * len(items)
        return list(map(Entry, times, ranks, items)), False
    last_us = _last_us(row)
    first_us = last_us - len(items) + 1
    return [Entry(first_us + place, 0, item) for place, item in enumerate(items)], True


def merged(row: OnlineRow | None, new: Sequence[Entry], length: int) -> Merged:
    """`row` with the events `new`, at least one, cut to the latest `length`."""
    if row is not None and (appended := _appended(row, new, length)):
        return Merged(appended, [APPLIED] * len(new), False)
    old, untimed = entries_of(row)
    entries = merge(old, new, length)
    known = {(each.time_us, each.item) for each in old}
    held = {(each.time_us, each.item) for each in entries}
    outcomes = []
    for entry in new:
        key = entry.time_us, entry.item
        outcomes.append(DUPLICATE if key in known else APPLIED if key in held else TOO_OLD)
        known.add(key)
    changed = row is None or entries != old
    return Merged(row_of(entries) if changed else None, outcomes, untimed)


def _appended(row: OnlineRow, new: Sequence[Entry], length: int) -> OnlineRow | None:
    """The same for what is almost always the case, in a tenth of the time; else None.

    The new events differ and are all later than those in store: they go behind these, without a
    look at each of a thousand.
    """
    items, times, ranks = _lists(row)
    full = len(items) == len(times) == len(ranks)
    if not full or not 0 < len(items) <= length or len(new) > length:
        return None
    behind = sorted(new)
    if behind[0].time_us <= times[-1] or len({(each[0], each[2]) for each in new}) < len(new):
        return None
    from feast.protos.feast.types.Value_pb2 import Value

    start = max(0, len(items) + len(behind) - length)
    last_us = behind[-1].time_us
    values = {name: Value() for name in (HISTORY, TIMES, RANKS)}
    for name, each in values.items():
        each.CopyFrom(row.values[name])
    grown = _lists(OnlineRow(row.event_time, values))
    for column, field in zip(grown, ("item", "time_us", "rank"), strict=True):
        column.extend(getattr(each, field) for each in behind)
        del column[:start]
    values[COUNT] = Value(int64_val=len(items) - start + len(behind))
    values[LAST] = Value(unix_timestamp_val=last_us // 1_000_000)
    return OnlineRow(from_us(last_us), values)


def _lists(row: OnlineRow) -> tuple[Any, Any, Any]:
    values = row.values
    return (
        values[HISTORY].string_list_val.val if HISTORY in values else [],
        values[TIMES].int64_list_val.val if TIMES in values else [],
        values[RANKS].int64_list_val.val if RANKS in values else [],
    )


def _last_us(row: OnlineRow) -> int:
    """Of a row's last event, as exactly as it says."""
    seconds = row.values[LAST].unix_timestamp_val if LAST in row.values else 0
    said = EPOCH + timedelta(seconds=seconds)
    return to_us(max(said, row.event_time))
