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
) -> list[str]:
    """Write histories, with a store's live events on top; ids of those that have such.

    Args:
        places: of the rows in `encoded`.
    """
    fresh = [_row(encoded, place) for place in places]
    ids = [encoded.ids[place] for place in places]
    live: list[str] = []

    def new(stored: Sequence[OnlineRow | None]) -> list[OnlineRow]:
        changed = [_rebased(row, old, limits) for row, old in zip(fresh, stored, strict=True)]
        pairs = zip(ids, fresh, changed, strict=True)
        live[:] = [each for each, row, other in pairs if row is not other]
        return changed

    rows.change(ids, new)
    return live


def drop_rebased(rows: BulkRows, ids: Sequence[str], limits: Limits) -> tuple[int, list[str]]:
    """Delete histories of users who are not in the data, but for live events.

    Returns:
        How many rows were changed, and ids of those who have live events left.
    """
    live: list[str] = []

    def new(stored: Sequence[OnlineRow | None]) -> list[OnlineRow | None]:
        live.clear()
        return [_left(each, old, limits, live) for each, old in zip(ids, stored, strict=True)]

    return rows.change(ids, new), live


def _left(id_: str, old: OnlineRow | None, limits: Limits, live: list[str]) -> OnlineRow | None:
    if old is None:
        return None
    entries = rebase((), _live_entries(old), limits.covered_until_us, limits.history_length)
    if not entries:
        return NO_ROW
    live.append(id_)
    return None if entries == entries_of(old)[0] else row_of(entries)


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
