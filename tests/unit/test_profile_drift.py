"""Profiles and what tells two of them apart."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.validation.days import last_day_share, repeated_days
from ingestion.validation.drift import distance, kept_share, measures
from ingestion.validation.profile import profile
from ingestion.validation.settings import DriftConfig
from ingestion.validation.snapshot_measures import own_measures

START = datetime(2024, 1, 1, tzinfo=UTC)
EVENTS = [
    {
        "user_id": f"u{place % 50}",
        "item_id": f"i{place % 10}",
        "timestamp": START + timedelta(hours=place),
        "event_type": "view" if place % 4 else "buy",
        "value": float(place % 5),
    }
    for place in range(240)
]
ITEMS = [
    {"item_id": f"i{item}", "title": f"t{item}", "categories": ["a", "b"] if item % 2 else []}
    for item in range(10)
]


def profiled(tmp_path: Path, **tables: list[dict[str, Any]]) -> dict[str, Any]:
    connection = ibis.duckdb.connect()
    users = [{"user_id": f"u{user}"} for user in range(50)]
    rows = {"events": EVENTS, "items": ITEMS, "users": users} | tables
    for name, content in rows.items():
        pq.write_table(pa.Table.from_pylist(content), tmp_path / f"{name}.parquet")
    return profile(
        {name: connection.read_parquet(tmp_path / f"{name}.parquet") for name in rows}, "duckdb"
    )


def test_a_profile_by_hand(tmp_path: Path) -> None:
    found = profiled(tmp_path)
    assert found["rows"] == {"events": 240, "items": 10, "users": 50}
    assert found["hours"] == {str(hour): 10 for hour in range(24)}
    assert {day: content[0] for day, content in found["days"].items()} == {
        f"2024-01-{day:02d}": 24 for day in range(1, 11)
    }
    assert found["types"] == {"view": 180, "buy": 60}
    assert found["categories"] == {"a": 5, "b": 5}
    assert found["nulls"]["items"] == {"item_id": 0.0, "title": 0.0, "categories": 0.5}
    assert sum(found["values"].values()) == 240
    assert len(found["values"]) == 5
    assert found["popularity"] == {str(decile): 24 for decile in range(10)}
    assert found["forms"]["items.item_id"] == {"other": 10}
    assert len(found["ids"]["users"]) == 50


def test_a_profile_has_no_drift_from_itself(tmp_path: Path) -> None:
    found = profiled(tmp_path)
    compared = measures(found, found, DriftConfig(min_rows=1))
    assert len(compared) > 12
    for measure in compared:
        low = -1e9 if measure.low is None else measure.low
        high = 1e9 if measure.high is None else measure.high
        assert measure.value is None or low <= measure.value <= high, measure


def test_values_types_and_categories_that_move(tmp_path: Path) -> None:
    before = profiled(tmp_path)
    dearer = [row | {"value": row["value"] * 100, "event_type": "wish"} for row in EVENTS]
    other = [row | {"categories": ["c"]} for row in ITEMS]
    found = profiled(tmp_path, events=dearer[:100], items=other)
    by_name = {each.name: each for each in measures(found, before, DriftConfig(min_rows=1))}
    assert by_name["drift.events.volume"].value == pytest.approx(100 / 240)
    assert by_name["drift.events.values"].value > 0.5
    assert by_name["drift.events.new_types"].value == 1
    assert "'wish'" in by_name["drift.events.new_types"].said
    assert by_name["drift.items.new"].said == "new: 'c'"
    assert by_name["drift.events.freshness"].value == pytest.approx(140 / 24)
    few = {each.name for each in measures(found, before, DriftConfig(min_rows=1000))}
    assert "drift.events.values" not in few


def test_distance_is_that_of_jensen_and_shannon_less_chance() -> None:
    assert distance({"a": 5}, {"a": 900}) == 0
    assert distance({"a": 10**9}, {"b": 10**9}) == pytest.approx(1)
    # p = (1/2, 1/2), q = (1, 0): JSD = 3/4 log2(4/3) of halves and ones, 0.311 bit.
    assert distance({"a": 10**9, "b": 10**9}, {"a": 10**9}) == pytest.approx(0.3113**0.5, abs=1e-3)
    assert distance({}, {}) == 0
    assert distance({}, {"a": 1}) == 1


def test_two_samples_of_one_distribution_are_near() -> None:
    chance = random.Random(3)

    def sample() -> dict[str, int]:
        counts: dict[str, int] = {}
        for _ in range(1000):
            key = str(int(chance.gauss(0, 12)))
            counts[key] = counts.get(key, 0) + 1
        return counts

    assert max(distance(sample(), sample()) for _ in range(50)) < DriftConfig().max_distance


def test_kept_share_of_sketches() -> None:
    ids = random.Random(5).sample(range(10**12), 4000)
    sketch = lambda part: sorted(part)[:256]  # noqa: E731
    assert kept_share(sketch(ids), sketch(ids)) == 1
    assert kept_share(sketch(ids[:3000]), sketch(ids)) == pytest.approx(0.75, abs=0.1)
    assert kept_share(sketch(ids + [each + 1 for each in ids]), sketch(ids)) == 1
    assert kept_share([], sketch(ids)) == 0
    assert kept_share([1, 2], []) is None


def test_days_that_repeat_and_a_thin_last_day() -> None:
    days = {f"2024-01-{day:02d}": [1000 + day, day] for day in range(1, 21)}
    assert repeated_days(days) == []
    assert last_day_share(days)[0] == pytest.approx(1, abs=0.02)
    days["2024-01-19"] = days["2024-01-18"]
    assert repeated_days(days) == [("2024-01-18", "2024-01-19")]
    days["2024-01-19"] = [40, 0]
    share, said = last_day_share(days)
    assert share == pytest.approx(40 / 1011.5)
    assert said.startswith("2024-01-19: 40 events")
    assert last_day_share(dict(list(days.items())[:5]))[0] is None


def test_a_table_without_rows_is_measured_like_any_other(tmp_path: Path) -> None:
    before = profiled(tmp_path)
    none = before | {"forms": before["forms"] | {"items.item_id": {}}}
    none |= {"ids": before["ids"] | {"items": []}, "rows": before["rows"] | {"items": 0}}
    by_name = {each.name: each for each in measures(none, before, DriftConfig(min_rows=1))}
    assert by_name["drift.items.volume"].value == 0
    assert by_name["drift.items.known_ids"].value == 0


def test_times_of_an_engine_that_names_no_zone_are_utc(tmp_path: Path) -> None:
    found = profiled(tmp_path)
    naive = found | {"newest": found["newest"].removesuffix("+00:00")}
    assert naive != found
    for now, before in ((naive, found), (found, naive)):
        by_name = {each.name: each for each in measures(now, before, DriftConfig())}
        assert by_name["drift.events.freshness"].value == 0


def test_users_under_another_key_of_pseudonyms_are_not_compared(tmp_path: Path) -> None:
    before = profiled(tmp_path) | {"user_key": None}
    others = [{"user_id": f"{user:032x}"} for user in range(50)]
    now = profiled(tmp_path, users=others) | {"user_key": "1f0c22ab"}
    assert {each.name for each in measures(now, before, DriftConfig()) if not each.met} == set()
    same_key = before | {"user_key": "1f0c22ab"}
    failed = {each.name for each in measures(now, same_key, DriftConfig()) if not each.met}
    assert failed == {"drift.users.user_id.form", "drift.users.known_ids"}


def test_a_cut_line_is_shown_without_identifiers_of_people() -> None:
    line = {"table": "events", "file": "e.csv", "row": '{"line": "7;jane.doe@example.com;2024'}
    found = own_measures({}, {"read": {"events": 10}}, [line], DriftConfig())
    (cut,) = (each for each in found if each.name == "source.complete")
    assert cut.value == 1
    assert "jane" not in cut.said
    assert "7;j…m (20 characters)" in cut.said
