"""Events merged into rows of user_history: the same row whatever their order."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_log import START_US, Sent, by_hand, deliveries, logs

from feature_repo.live.merge import Entry
from feature_repo.live.outcomes import APPLIED, DUPLICATE, TOO_OLD
from feature_repo.live.rows import entries_of, merged, row_of
from feature_repo.store import import_feast
from feature_repo.stores.base import OnlineRow

import_feast()
LAST = datetime(2025, 6, 15, 15, 6, 45, tzinfo=UTC)


def entry(seconds: float, item: str, rank: int = 0) -> Entry:
    return Entry(START_US + round(seconds * 1e6), rank, item)


def put(row: OnlineRow | None, *new: Entry, length: int = 5) -> tuple[OnlineRow | None, list[str]]:
    found = merged(row, new, length)
    return found.row or row, found.outcomes


def shown(row: OnlineRow | None) -> list[Entry]:
    return entries_of(row)[0]


@settings(max_examples=150, deadline=None)
@given(st.data(), logs(users=1), st.integers(1, 7))
def test_any_order_any_batches_and_repeats_end_in_the_same_row(
    data: st.DataObject, log: list[Sent], length: int
) -> None:
    row = None
    for batch in data.draw(deliveries(log)):
        if batch:
            entries = [Entry(time, rank, item) for _, item, time, rank in batch]
            row, _ = put(row, *entries, length=length)
    expected = by_hand(log, length)["u0"]
    assert shown(row) == expected
    assert row == row_of(expected)


def test_a_row_says_what_it_holds() -> None:
    row, outcomes = put(None, entry(1.5, "b"), entry(0, "a"))
    assert row is not None
    assert outcomes == [APPLIED, APPLIED]
    assert row.event_time == datetime(2025, 6, 15, 15, 6, 41, 500_000, tzinfo=UTC)
    values = row.values
    assert list(values["history"].string_list_val.val) == ["a", "b"]
    assert list(values["history_times"].int64_list_val.val) == [START_US, START_US + 1_500_000]
    assert list(values["history_ranks"].int64_list_val.val) == [0, 0]
    assert values["event_count"].int64_val == 2
    assert values["last_event_time"].unix_timestamp_val == START_US // 1_000_000 + 1


def test_each_event_is_told_what_became_of_it() -> None:
    row, _ = put(None, *(entry(second, f"i{second}") for second in range(1, 6)))
    new = [entry(3, "i3"), entry(0, "old"), entry(9, "x"), entry(9, "x"), entry(0, "old")]
    row, outcomes = put(row, *new)
    assert outcomes == [DUPLICATE, TOO_OLD, APPLIED, DUPLICATE, DUPLICATE]
    assert [each.item for each in shown(row)] == ["i2", "i3", "i4", "i5", "x"]


def test_nothing_is_written_where_nothing_changes() -> None:
    row, _ = put(None, *(entry(second, f"i{second}") for second in range(5)))
    assert merged(row, [entry(2, "i2")], 5).row is None
    assert merged(row, [entry(-1, "older")], 5).row is None


def test_more_new_events_than_a_history_holds() -> None:
    row, _ = put(None, entry(0, "a"))
    row, outcomes = put(row, *(entry(second, f"i{second}") for second in range(1, 8)))
    assert outcomes == [TOO_OLD] * 2 + [APPLIED] * 5
    assert [each.item for each in shown(row)] == ["i3", "i4", "i5", "i6", "i7"]


def test_a_shorter_history_is_cut_with_the_next_event() -> None:
    row, _ = put(None, *(entry(second, f"i{second}") for second in range(5)))
    row, _ = put(row, entry(9, "new"), length=3)
    assert [each.item for each in shown(row)] == ["i3", "i4", "new"]


def untimed(items: Sequence[str], **more: object) -> OnlineRow:
    """As before histories had times."""
    from feast.protos.feast.types.Value_pb2 import StringList, Value

    return OnlineRow(LAST, {"history": Value(string_list_val=StringList(val=items))})


def test_a_row_without_times_keeps_its_order_and_what_is_newer_goes_behind() -> None:
    row = untimed(["a", "b", "a"])
    found = merged(row, [entry(10, "new"), entry(-99, "long ago")], 10)
    assert found.untimed
    assert found.row is not None
    assert [each.item for each in shown(found.row)] == ["long ago", "a", "b", "a", "new"]
    again, outcomes = put(found.row, entry(10, "new"))
    assert outcomes == [DUPLICATE]
    assert not entries_of(again)[1]


@pytest.mark.parametrize("row", [None, untimed([])])
def test_a_user_without_events(row: OnlineRow | None) -> None:
    assert shown(row) == []
    found, outcomes = put(row, entry(1, "a"))
    assert outcomes == [APPLIED]
    assert shown(found) == [entry(1, "a")]
