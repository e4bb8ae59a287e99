"""Events of the wrong time are dropped by reason; events out of order are counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleaning_tables import START, Event, dropped, events_table
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingestion.cleaning import times
from ingestion.cleaning.settings import CleaningConfig
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from recommender.engines.settings import EngineConfig

DAY = 86_400.0
EVENTS = [("u", "a", day * DAY) for day in (-3, -1, 0, 1, 3)] + [("u", "a", DAY + 0.000001)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def gone(engine: Engine, **config: Any) -> list[tuple[dict[int, str], bool]]:
    """What each rule drops of EVENTS, and whether it counts as rejected."""
    rules = times.out_of_time(CleaningConfig(**config), START)
    return [
        (dropped(engine, rule, events_table(EVENTS)), rule.counts_as_rejected) for rule in rules
    ]


def test_out_of_range_by_an_iso_time_of_any_zone(engine: Engine) -> None:
    first, last = "2024-03-01T02:00:00+02:00", "2024-03-02"  # START, and a day after it
    assert gone(engine, earliest=first, latest=last) == [
        (dict.fromkeys([0, 1], times.BEFORE), False),
        (dict.fromkeys([4, 5], times.AFTER), False),
    ]


def test_the_future_begins_after_the_moment_of_ingestion(engine: Engine) -> None:
    assert gone(engine, max_future_days=1) == [(dict.fromkeys([4, 5], times.FUTURE), True)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"earliest": "1.3.2024"}, "is no ISO time; write such as 2024-01-31"),
        ({"earliest": "2024-03-02", "latest": "2024-03-01"}, "earliest must not be after latest"),
    ],
)
def test_a_range_that_is_none_is_refused(config: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CleaningConfig(**config)


def write(path: Path, events: list[Event], row_group: int) -> Path:
    table = events_table(events)
    order = ["user_id", "timestamp", "position"]
    table = table.sort_by([(name, "ascending") for name in order])
    pq.write_table(table, path, row_group_size=row_group)
    return path


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("uvw"), st.just("a"), st.integers(0, 5)), max_size=30),
    st.integers(1, 7),
)
def test_out_of_order_is_behind_a_later_event_of_the_same_user(
    tmp_path_factory: pytest.TempPathFactory, events: list, row_group: int
) -> None:
    expected = sum(
        any(other[0] == user and other[2] > time for other in events[:position])
        for position, (user, _, time) in enumerate(events)
    )
    path = tmp_path_factory.mktemp("events") / "events.parquet"
    assert times.out_of_order(write(path, events, row_group)) == expected


def test_no_events_are_in_order(tmp_path: Path) -> None:
    empty = events_table([])
    pq.write_table(pa.Table.from_batches([], empty.schema), tmp_path / "events.parquet")
    assert times.out_of_order(tmp_path / "events.parquet") == 0
