"""Every rule of cleaning drops the same rows on Spark as on DuckDB, and texts come out the same."""

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cleaning_tables import START, Event, dropped, events_table, repeats

from ingestion.cleaning.bots import bots, reason_of
from ingestion.cleaning.kcore import k_core
from ingestion.cleaning.near_duplicates import merged
from ingestion.cleaning.repeats import duplicate_rows
from ingestion.cleaning.repeats_in_time import repeats_in_time
from ingestion.cleaning.rule import Rule
from ingestion.cleaning.settings import (
    BotsConfig,
    CleaningConfig,
    KCoreConfig,
    NearDuplicatesConfig,
)
from ingestion.cleaning.texts import clean_items
from ingestion.cleaning.times import out_of_time
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from ingestion.sources import ItemsSource
from recommender.engines.settings import EngineConfig

DAY = 86_400
Engines = dict[str, Engine]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    names = ("duckdb", "spark")
    engines = {
        name: open_engine(
            EngineConfig(name=name, spark_master="local[2]"), tmp_path_factory.mktemp(name)
        )
        for name in names
    }
    yield engines
    for engine in engines.values():
        engine.close()


def some_events(count: int, seconds: int) -> list[Event]:
    """Of 12 users and 8 items, some far more often than others, at half seconds within a span."""
    draw = random.Random(11)
    return [
        (
            f"u{min(draw.randrange(12), draw.randrange(12))}",
            f"i{min(draw.randrange(8), draw.randrange(8))}",
            draw.randrange(2 * seconds) / 2,
        )
        for _ in range(count)
    ]


def same(engines: Engines, rule: Rule | None, table: pa.Table) -> dict[int, str]:
    """What the rule drops, on both alike."""
    assert rule is not None
    on_duckdb, on_spark = (dropped(engine, rule, table) for engine in engines.values())
    assert on_spark == on_duckdb
    assert 0 < len(on_spark) < len(table), "a rule that drops something, and not all"
    return on_spark


def test_exact_duplicates(engines: Engines) -> None:
    events = some_events(300, 2)
    table = events_table(events).append_column(
        "device", pa.array([[None, "phone", "tv"][n % 3] for n in range(300)])
    )
    gone = same(engines, duplicate_rows("duplicates", None, "exact duplicate"), table)
    seen = [(event, n % 3) for n, event in enumerate(events)]
    assert len(gone) == len(seen) - len(set(seen))


def test_zero_is_minus_zero(engines: Engines) -> None:
    table = events_table([("u", "a", 0.0)] * 3)
    table = table.set_column(4, table.schema.field(4), pa.array([0.0, 1.0, -0.0]))
    assert set(same(engines, duplicate_rows("duplicates", None, "x"), table)) == {2}


@pytest.mark.parametrize("window_s", [1.5, 40.0])
def test_repeats_within_a_window(engines: Engines, window_s: float) -> None:
    events = some_events(400, 120)
    assert set(same(engines, repeats_in_time(window_s), events_table(events))) == repeats(
        events, window_s
    )


def test_bots(engines: Engines) -> None:
    events = some_events(300, 3 * DAY)
    events += [("minute", f"i{n}", 59.0 + n) for n in range(7)]
    events += [("minute", f"i{n}", 120.0 + n) for n in range(7)]
    events += [("daily", f"i{n}", n * 100.0) for n in range(26)]
    events += [("before-1970", f"i{n}", -60.0 * 365 * DAY + n) for n in range(7)]
    limits = BotsConfig(
        max_events_per_minute=6,
        max_events_per_day=25,
        max_events=50,
        min_distinct_share=0.3,
        min_events=12,
    )
    gone = same(engines, bots(limits), events_table(events))
    reasons = {events[position][0]: reason for position, reason in gone.items()}
    assert reasons["minute"] == reasons["before-1970"] == reason_of("max_events_per_minute")
    assert len(set(reasons.values())) == 4


def test_the_k_core(engines: Engines) -> None:
    events = some_events(90, 9)
    events += [(f"chain{n}", f"link{n + step}", 0.0) for n in range(4) for step in (0, 1)]
    gone = same(engines, k_core(KCoreConfig(user_events=6, item_events=8)), events_table(events))
    assert len(set(gone.values())) == 2


def test_times(engines: Engines) -> None:
    events = events_table([("u", "a", n * DAY + 1e-6) for n in range(-9, 10)])
    config = CleaningConfig(
        earliest="2024-02-25T03:00:00+03:00",
        latest="2024-03-08",
        max_future_days=2.5,
    )
    rules = out_of_time(config, START + timedelta(days=1))
    assert [len(same(engines, rule, events)) for rule in rules] == [4, 3, 6]


def test_texts(engines: Engines, tmp_path: Path) -> None:
    items = {
        "title": [
            "Godfather, The (1972)",
            "Tom &amp; <i>Jerry</i>",
            " Ｎｅｗ\u200b\ttitle ",
            "Avventura, L'",
            "\u00a0",
            None,
            "plain",
            "&lt;b&gt;",
            "Dropped, The",
        ],
        "about": [
            "The aging patriarch of an organised crime dynasty transfers control to his son.",
            "Der Kater jagt die Maus, und die Maus ärgert den Kater, jeden Tag aufs Neue.",
            "()",
            "Una donna scompare durante una gita in barca tra le isole del Mediterraneo.",
            "text",
            "text",
            "<p> </p>",
            "text",
            "text",
        ],
        "score": [1e7, 0.5, None, 1e-7, 1.0, 1.0, -3.0, 2.0, 1.0],
        "votes": [1, 20, 300, None, 5, 6, 7, 8, 9],
        "tags": [["a", "b"], [], None, ["c"], [], [], [" x "], [], []],
        "at": pa.array([n * 10**9 for n in range(9)], pa.timestamp("us", "UTC")),
    }
    table = pa.table(
        {"item_id": [str(n) for n in range(9)]}
        | items
        | {
            "text": pa.nulls(9, pa.string()),
            "position": range(9),
            "reason": pa.array([None] * 8 + ["missing item_id"]),
        }
    )
    # By a file: tables in memory go to Spark through pandas, which has no null integers.
    pq.write_table(table, tmp_path / "items.parquet")
    found: dict[str, Any] = {}
    for template in ("{title}: {about:.30} [{tags}] {score} {votes} {at}", "* {about} ({tags})"):
        source = ItemsSource(
            path="items",
            format="csv",
            columns={"item_id": "item_id", "title": "title"},
            title_article=True,
            text=template,
        )
        for name, engine in engines.items():
            checked = engine.connection.read_parquet(tmp_path / "items.parquet")
            cleaned, changed = clean_items(
                checked, source, CleaningConfig(language=True), engine.keep
            )
            columns = ["position", "title", "text", "reason", "language"]
            rows = cleaned.select(*columns).order_by("position").to_pyarrow().to_pylist()
            counts = changed.order_by("reason").to_pyarrow().to_pylist()
            found[name] = (rows, counts)
        for on_spark, on_duckdb in zip(found["spark"], found["duckdb"], strict=True):
            for ours, theirs in zip(on_spark, on_duckdb, strict=True):
                assert ours == theirs
        rows, counts = found["spark"]
        assert {row["language"] for row in rows} >= {"en", "de", "it", "und"}
        assert {row["reason"] for row in rows} >= {"missing title", "missing item_id", None}
        assert counts


def test_near_duplicates(engines: Engines) -> None:
    draw = random.Random(5)
    words = [draw.sample(range(1000), 30) for _ in range(20)]
    texts = [" ".join(map(str, text)) for text in words]
    texts += [" ".join(map(str, [*text[:-1], "new"])) for text in words]
    table = pa.table(
        {"item_id": [str(n) for n in range(40)], "text": texts, "position": list(range(40))}
    )
    found = []
    for engine in engines.values():
        items = engine.keep("items", ibis.memtable(table))
        rows = merged(items, NearDuplicatesConfig(threshold=0.9), engine.keep)
        found.append(rows.order_by("item_id").to_pyarrow().to_pylist())
    assert found[0] == found[1]
    assert len(found[0]) >= 18
