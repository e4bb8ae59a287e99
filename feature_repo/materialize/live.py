"""Rows that have live events newer than the data: these events stay on top of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from feature_repo.live.merge import Entry, rebase
from feature_repo.live.rows import entries_of, row_of
from feature_repo.stores.base import NO_ROW, BulkRows, EncodedRows, OnlineRow
from feature_repo.stores.layout import from_us


class Limits(NamedTuple):
    covered_until_us: int  # what is stored of later events came in live
    history_length: int


def write_rebased(
    rows: BulkRows, encoded: EncodedRows, places: Sequence[int], limits: Limits
) -> int:
    """Write histories, with a store's live events on top; how many have such.

    Args:
        places: of the rows in `encoded`.
    """
    fresh = [_row(encoded, place) for place in places]
    live = 0

    def new(stored: Sequence[OnlineRow | None]) -> list[OnlineRow]:
        nonlocal live
        both = zip(fresh, stored, strict=True)
        changed = [_rebased(row, old, limits) for row, old in both]
        live = sum(row is not other for row, other in zip(fresh, changed, strict=True))
        return changed

    rows.change([encoded.ids[place] for place in places], new)
    return live


def drop_rebased(rows: BulkRows, ids: Sequence[str], limits: Limits) -> int:
    """Delete histories of users who are gone from the data, but for live events; how many."""

    def new(stored: Sequence[OnlineRow | None]) -> list[OnlineRow | None]:
        return [None if old is None else _left(old, limits) for old in stored]

    return rows.change(ids, new)


def _left(old: OnlineRow, limits: Limits) -> OnlineRow:
    entries = rebase((), _live_entries(old), limits.covered_until_us, limits.history_length)
    return row_of(entries) if entries else NO_ROW


def _rebased(fresh: OnlineRow, old: OnlineRow | None, limits: Limits) -> OnlineRow:
    batch, _ = entries_of(fresh)
    entries = rebase(batch, _live_entries(old), limits.covered_until_us, limits.history_length)
    return fresh if entries == batch else row_of(entries)


def _live_entries(old: OnlineRow | None) -> list[Entry]:
    """A row whose events have no times is an older Kuberec's, of data that ours replaces."""
    entries, untimed = entries_of(old)
    return [] if untimed else entries


def _row(encoded: EncodedRows, place: int) -> OnlineRow:
    from feast.protos.feast.types.Value_pb2 import Value

    values: dict[str, Any] = {
        name: Value.FromString(column[place]) for name, column in encoded.values.items()
    }
    return OnlineRow(from_us(encoded.times_us[place]), values)
