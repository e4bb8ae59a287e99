"""Exact duplicates, and the same user, item and type again within a window."""

from collections.abc import Iterator

import ibis
import pyarrow as pa
import pytest
from cleaning_tables import dropped, events_table, repeats, without
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.cleaning.repeats import _HASH, candidates, duplicate_rows
from ingestion.cleaning.repeats_in_time import REPEAT, repeats_in_time
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from recommender.engines.settings import EngineConfig

# Times of a few whole and half seconds, so that ties and events at a window's very end are common.
times = st.integers(0, 24).map(lambda half: half / 2)
kinds = st.sampled_from(["u1", "u2", "u3"]), st.sampled_from(["a", "b"])
event_lists = st.lists(st.tuples(*kinds, times), max_size=120)
duplicates = duplicate_rows("duplicates", None, "exact duplicate")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def test_the_first_of_equal_rows_stays(engine: Engine) -> None:
    table = events_table([("u", "a", 1), ("u", "a", 2), ("u", "a", 1), ("u", "a", 1)])
    assert dropped(engine, duplicates, table) == {2: "exact duplicate", 3: "exact duplicate"}


def test_rows_that_differ_in_a_rider_are_no_duplicates_and_nulls_are_equal(engine: Engine) -> None:
    table = events_table([("u", "a", 1)] * 4)
    table = table.append_column("device", pa.array(["phone", None, "tv", None]))
    assert set(dropped(engine, duplicates, table)) == {3}


def test_one_row_an_id_whatever_else_it_says(engine: Engine) -> None:
    rule = duplicate_rows("duplicate_items", ["item_id"], "duplicate item_id")
    table = pa.table({"item_id": ["a", "b", "a"], "title": ["A", "B", "C"], "position": [5, 6, 7]})
    assert dropped(engine, rule, table) == {7: "duplicate item_id"}


@settings(max_examples=10, deadline=None)
@given(event_lists)
def test_no_duplicate_is_left_and_nothing_else_is_gone(engine: Engine, events: list) -> None:
    table = events_table(events)
    kept = without(table, dropped(engine, duplicates, table))
    rows = [tuple(row.values())[:5] for row in kept.to_pylist()]
    everything = [tuple(row.values())[:5] for row in table.to_pylist()]
    assert rows == list(dict.fromkeys(everything))


def test_a_hash_that_tells_nothing_apart_changes_nothing(engine: Engine, monkeypatch) -> None:
    """The hash only saves work: with one for all rows the result is the same."""
    monkeypatch.setattr(
        "ingestion.cleaning.repeats._hash",
        lambda rows, key: rows.mutate(**{_HASH: rows.position * 0}),
    )
    table = events_table([("u", "a", 1), ("v", "a", 1), ("u", "a", 1), ("u", "b", 0)])
    assert set(dropped(engine, duplicates, table)) == {2}


def test_rows_of_unique_keys_are_left_out_before_any_sort(engine: Engine) -> None:
    usable = engine.keep(
        "usable", ibis.memtable(events_table([("u", "a", 1), ("v", "a", 1), ("u", "a", 3)]))
    )
    rows = candidates(usable, ["user_id", "item_id"], "few", engine.keep)
    assert sorted(rows.execute()["position"]) == [0, 2]


def test_a_chain_is_measured_from_the_last_kept_event(engine: Engine) -> None:
    table = events_table([("u", "a", 10 * n) for n in range(8)])  # 0, 10, ... 70 s
    rule = repeats_in_time(25)
    assert dropped(engine, rule, table) == dict.fromkeys([1, 2, 4, 5, 7], REPEAT)


def test_the_window_ends_with_its_last_microsecond(engine: Engine) -> None:
    table = events_table([("u", "a", 0), ("u", "a", 2.5), ("u", "b", 0), ("u", "b", 2.500001)])
    assert set(dropped(engine, repeats_in_time(2.5), table)) == {1}


def test_other_items_and_types_are_other_events(engine: Engine) -> None:
    table = events_table(
        [("u", "a", 0), ("u", "a", 1), ("u", "b", 1), ("v", "a", 1), ("u", "a", 1)],
        ["view", "buy", "view", "view", "view"],
    )
    assert set(dropped(engine, repeats_in_time(5), table)) == {4}


def test_a_day_of_clicks_leaves_one_event_a_window(engine: Engine) -> None:
    events = [("bot", "a", float(n)) for n in range(5000)] + [("u", "a", 3.0)]
    gone = set(dropped(engine, repeats_in_time(59), events_table(events)))
    assert set(range(5001)) - gone == {*range(0, 5000, 60), 5000}


@settings(max_examples=15, deadline=None)
@given(event_lists, st.sampled_from([0.5, 1.0, 2.5, 7.0]))
def test_as_a_loop_over_events_would(engine: Engine, events: list, window_s: float) -> None:
    table = events_table(events)
    rule = repeats_in_time(window_s)
    gone = dropped(engine, rule, table)
    assert set(gone) == repeats(events, window_s)
    assert not dropped(engine, rule, without(table, gone)), "applied again, it drops nothing"
