"""Users whose events no person makes are dropped whole, each by the first limit it breaks."""

from collections.abc import Iterator
from typing import Any

import pytest
from cleaning_tables import Event, dropped, events_table

from ingestion.cleaning.bots import bots, reason_of
from ingestion.cleaning.rule import Rule
from ingestion.cleaning.settings import BotsConfig
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from recommender.engines.settings import EngineConfig

DAY = 86_400.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def rule(**limits: Any) -> Rule:
    made = bots(BotsConfig(**limits))
    assert made is not None
    return made


def bots_of(engine: Engine, events: list[Event], **limits: Any) -> dict[str, str]:
    """User: reason; all events of a user are dropped, or none."""
    reasons = dropped(engine, rule(**limits), events_table(events))
    users = {events[position][0]: reason for position, reason in reasons.items()}
    assert len(reasons) == sum(user in users for user, _, _ in events)
    return users


def test_a_minute_is_the_clocks(engine: Engine) -> None:
    within = [("fast", "a", 60.0), ("fast", "b", 90.0), ("fast", "c", 119.999)]
    across = [("slow", "a", 30.0), ("slow", "b", 59.999), ("slow", "c", 60.0)]
    elsewhere = [("fast", "d", 5 * DAY)]
    events = within + across + elsewhere
    assert bots_of(engine, events, max_events_per_minute=2) == {
        "fast": reason_of("max_events_per_minute")
    }


def test_a_day_is_utcs(engine: Engine) -> None:
    busy = [("busy", "a", 0.0), ("busy", "a", DAY / 2), ("busy", "a", DAY - 1)]
    night = [("night", "a", DAY - 2), ("night", "a", DAY - 1), ("night", "a", DAY)]
    assert bots_of(engine, busy + night, max_events_per_day=2) == {
        "busy": reason_of("max_events_per_day")
    }


def test_as_many_events_as_the_limit_are_allowed(engine: Engine) -> None:
    events = [("two", "a", 0.0), ("two", "a", 9.0)] + [("three", "a", n * DAY) for n in range(3)]
    assert bots_of(engine, events, max_events=2) == {"three": reason_of("max_events")}


def test_always_the_same_items_of_users_with_events_enough(engine: Engine) -> None:
    loop = [("loop", "ab"[n % 2], n * DAY) for n in range(9)]
    varied = [("varied", "abcdefghi"[n], n * DAY) for n in range(9)]
    quarter = [("quarter", "ab"[n % 2], n * DAY) for n in range(8)]  # just 0.25 are different
    young = [("young", "a", n * DAY) for n in range(7)]
    events = loop + varied + quarter + young
    assert bots_of(engine, events, min_distinct_share=0.25, min_events=8) == {
        "loop": reason_of("min_distinct_share")
    }


def test_one_reason_a_user_the_first_it_breaks(engine: Engine) -> None:
    events = [("all", "a", float(n)) for n in range(50)]
    events += [("many", f"i{n}", n * DAY) for n in range(50)]
    limits = {"max_events_per_minute": 5, "max_events": 9, "min_distinct_share": 0.5}
    assert bots_of(engine, events, **limits) == {
        "all": reason_of("max_events_per_minute"),
        "many": reason_of("max_events"),
    }


def test_without_a_limit_there_is_no_rule() -> None:
    assert bots(BotsConfig()) is None
