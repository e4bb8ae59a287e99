"""The k-core by the engine: the property itself, and the same as in memory."""

from collections import Counter
from collections.abc import Iterator

import pytest
from cleaning_tables import dropped, events_table
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cores import k_core as in_memory

from ingestion.cleaning import kcore
from ingestion.cleaning.settings import KCoreConfig
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from ingestion.errors import IngestError
from recommender.engines.settings import EngineConfig

pairs = st.tuples(st.integers(0, 9).map(str), st.integers(0, 9).map(str), st.just(0.0))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def core(engine: Engine, events: list, users: int, items: int) -> list:
    rule = kcore.k_core(KCoreConfig(user_events=users, item_events=items))
    assert rule is not None
    assert not rule.counts_as_rejected
    gone = dropped(engine, rule, events_table(events))
    return [event for position, event in enumerate(events) if position not in gone]


@given(st.lists(pairs, max_size=60), st.integers(1, 4))
def test_in_memory_it_is_the_largest_set_where_all_are_frequent(events: list, k: int) -> None:
    users, items = [event[0] for event in events], [event[1] for event in events]
    kept = in_memory(users, items, k)
    # The fixed point of dropping one rare end at a time is the same: nothing more had to go.
    remaining = list(events)
    while rare := [
        event
        for event in remaining
        if sum(event[0] == other[0] for other in remaining) < k
        or sum(event[1] == other[1] for other in remaining) < k
    ]:
        remaining = [event for event in remaining if event != rare[0]]
    assert sorted(remaining) == sorted(e for e, stays in zip(events, kept, strict=True) if stays)


@settings(max_examples=12, deadline=None)
@given(st.lists(pairs, min_size=1, max_size=80), st.integers(2, 4))
def test_the_same_as_in_memory(engine: Engine, events: list, k: int) -> None:
    users, items, _ = zip(*events, strict=True)
    kept = in_memory(users, items, k)
    assert core(engine, events, k, k) == [e for e, stays in zip(events, kept, strict=True) if stays]


@settings(max_examples=8, deadline=None)
@given(st.lists(pairs, min_size=40, max_size=120), st.integers(1, 6), st.integers(2, 6))
def test_all_that_is_left_is_frequent(engine: Engine, events: list, k: int, m: int) -> None:
    left = core(engine, events, k, m)
    assert all(count >= k for count in Counter(user for user, _, _ in left).values())
    assert all(count >= m for count in Counter(item for _, item, _ in left).values())


def test_an_event_is_told_whether_its_user_or_its_item_is_rare(engine: Engine) -> None:
    events = [("u", "a", 0.0), ("u", "a", 1.0), ("v", "a", 2.0), ("u", "b", 3.0)]
    rule = kcore.k_core(KCoreConfig(user_events=2, item_events=2))
    assert rule is not None
    assert dropped(engine, rule, events_table(events)) == {2: kcore.RARE_USER, 3: kcore.RARE_ITEM}


def test_a_chain_falls_link_by_link_and_rounds_are_bounded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each user and each item has two events but the first item: one round a link.
    chain = [(f"u{n}", f"i{n + step}", 0.0) for n in range(12) for step in (0, 1)]
    ring = [(f"r{n}", f"j{(n + step) % 3}", 0.0) for n in range(3) for step in (0, 1)]
    assert core(engine, chain + ring, 2, 2) == ring
    monkeypatch.setattr(kcore, "MAX_ROUNDS", 2)
    with pytest.raises(IngestError, match=r"k_core \(user_events 2, item_events 2\).*in 2 rounds"):
        core(engine, chain + ring, 2, 2)


def test_one_event_each_is_no_rule() -> None:
    assert kcore.k_core(KCoreConfig()) is None
