"""All rules of cleaning together: their order, and what holds of what is left."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cleaning_tables import START, dropped, events_table, repeats, without

from ingestion.cleaning.bots import reason_of
from ingestion.cleaning.repeats_in_time import REPEAT
from ingestion.cleaning.rules import event_rules, item_rules, user_rules
from ingestion.engines.open import open_engine
from ingestion.sources import SourceConfig
from recommender.engines.settings import EngineConfig

DAY = 86_400


def config(**cleaning: Any) -> SourceConfig:
    files = {"path": "file.csv", "format": "csv"}
    events = {name: name for name in ("user_id", "item_id", "timestamp")}
    return SourceConfig.model_validate(
        {
            "name": "small",
            "events": files | {"columns": events},
            "items": files | {"columns": {"item_id": "item_id", "title": "title"}},
            "cleaning": cleaning,
        }
    )


EVERYTHING = config(
    earliest=START.isoformat(),
    latest=(START + timedelta(days=2)).isoformat(),
    max_future_days=1,
    repeat_window_s=30,
    bots={"max_events": 60},
    k_core={"user_events": 4, "item_events": 3},
)


def test_without_options_duplicates_alone_are_dropped() -> None:
    assert [rule.name for rule in event_rules(config())] == ["duplicates"]
    assert [rule.name for rule in item_rules(config())] == ["duplicate_items"]
    assert [rule.name for rule in user_rules(config())] == ["duplicate_users"]


def test_only_what_is_wrong_with_the_data_counts_as_rejected() -> None:
    rules = event_rules(EVERYTHING)
    assert [(rule.name, rule.counts_as_rejected) for rule in rules] == [
        ("duplicates", True),
        ("earliest", False),
        ("latest", False),
        ("max_future_days", True),
        ("repeat_window_s", False),
        ("bots", False),
        ("k_core", False),
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_every_event_is_dropped_once_or_kept_and_what_is_kept_obeys_all_rules(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    events = [
        (f"u{draw.randrange(10)}", f"i{draw.randrange(9)}", float(draw.randrange(-5, 200)))
        for _ in range(200)
    ]
    events += [("rare", "i0", 1.0), ("u1", "rare", 2.0), events[0]]
    events += [("bot", f"i{n % 9}", n * 60.0) for n in range(90)]
    events += [(f"u{draw.randrange(10)}", "i1", 2.0 * DAY + 1 + n) for n in range(9)]
    table = events_table(events)
    reasons: dict[int, str] = {}
    engine = open_engine(EngineConfig(), tmp_path)
    try:
        for rule in event_rules(EVERYTHING):
            gone = dropped(engine, rule, without(table, reasons))
            assert not set(gone) & set(reasons)
            reasons |= gone
    finally:
        engine.close()
    kept = [event for position, event in enumerate(events) if position not in reasons]
    assert len(kept) + len(reasons) == len(events)
    assert set(Counter(reasons.values())) == {
        "exact duplicate",
        "before the earliest time",
        "after the latest time",
        REPEAT,
        reason_of("max_events"),
        "user outside the k-core",
        "item outside the k-core",
    }
    assert len(set(kept)) == len(kept)
    assert all(0 <= seconds <= 2 * DAY for _, _, seconds in kept)
    assert not repeats(kept, 30)
    assert min(Counter(user for user, _, _ in kept).values()) >= 4
    assert min(Counter(item for _, item, _ in kept).values()) >= 3
