"""Ingestion with rules, filters and weights: what they drop is accounted for like anything else."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender import schema

WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(f"id,name\na,{WORDS}\nb,{WORDS.title()}!\nc,other\n")
    (tmp_path / "events.csv").write_text(
        "user,item,time,kind,stars\n"
        "u1,a,2024-01-01,view,1\nu1,b,2024-01-01T00:00:10,view,1\nu1,c,2024-01-02,buy,2\n"
        "u2,b,2024-01-03,view,1\nu2,zz,2024-01-03,view,1\nu3,c,2024-01-04,spam,1\n"
    )
    return tmp_path


def source(folder: Path, events: dict[str, Any] | None = None, **changes: Any) -> SourceConfig:
    columns = {
        "user_id": "user",
        "item_id": "item",
        "timestamp": "time",
        "event_type": "kind",
        "value": "stars",
    }
    tables = {
        "events": {
            "path": str(folder / "events.csv"),
            "format": "csv",
            "columns": columns,
            "time_unit": "iso",
            **(events or {}),
        },
        "items": {
            "path": str(folder / "items.csv"),
            "format": "csv",
            "columns": {"item_id": "id", "title": "name"},
        },
    }
    content = {"name": "rules", "max_reject_fraction": 0.2, **tables, **changes}
    return SourceConfig.model_validate(content)


def read(folder: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(schema.table_path(folder / "snapshot", table)).to_pylist()


def test_filtered_rows_are_counted_by_filter_and_are_no_rejects(folder: Path) -> None:
    filters = [{"column": "kind", "one_of": ["view", "buy"]}, {"column": "stars", "at_least": 2}]
    summary = ingest(source(folder, {"filters": filters}), folder / "snapshot")
    assert summary["filtered"]["events"] == {"kind in view, buy": 1, "stars >= 2": 4}
    assert summary["kept"]["events"] == 1
    assert read(folder, "rejects") == []


def test_weights_multiply_the_value_of_their_types(folder: Path) -> None:
    ingest(source(folder, {"event_weights": {"buy": 3.0, "spam": 0}}), folder / "snapshot")
    assert {(row["event_type"], row["value"]) for row in read(folder, "events")} == {
        ("view", 1.0),
        ("buy", 6.0),
        ("spam", 0.0),
    }


def test_events_of_a_near_duplicate_are_those_of_the_first(folder: Path) -> None:
    near = {"near_duplicates": {"action": "merge", "threshold": 0.8}}
    summary = ingest(source(folder, cleaning=near), folder / "snapshot")
    assert summary["rejected"]["items"] == {"near duplicate": 1}
    assert [row["item_id"] for row in read(folder, "items")] == ["a", "c"]
    events = [(row["user_id"], row["item_id"]) for row in read(folder, "events")]
    assert events == [("u1", "a"), ("u1", "a"), ("u1", "c"), ("u2", "a"), ("u3", "c")]
    assert {row["reason"] for row in read(folder, "rejects")} == {
        "near duplicate of a",
        "unknown item",
    }


def test_what_the_configuration_drops_is_no_bad_data(folder: Path) -> None:
    core = {"k_core": {"user_events": 2}}
    summary = ingest(source(folder, cleaning=core), folder / "snapshot")
    reasons = summary["rejected"]["events"]
    assert sum(reasons.values()) == 3  # half of the rows, and a fifth is allowed
    assert summary["kept"]["events"] == 3
    with pytest.raises(IngestError, match=r"1 of 6 rows cannot be used \(16\.7%"):
        ingest(source(folder, cleaning=core, max_reject_fraction=0.1), folder / "snapshot")


def test_rejects_name_file_and_line(folder: Path) -> None:
    (folder / "events-2.csv").write_text(
        'user,item,time,kind,stars\n\nu1,"c",2024-01-01,"a\nb",1\nhalf\nu1,zz,2024-01-01,view,1\n'
    )
    ingest(
        source(folder, {"path": str(folder / "events*.csv")}, max_reject_fraction=1.0),
        folder / "snapshot",
    )
    found = [
        (Path(row["file"]).name, row["line"], row["position"], json.loads(row["row"]))
        for row in read(folder, "rejects")
    ]
    unknown = {"user": "u1", "item": "zz", "time": "2024-01-01", "kind": "view", "stars": "1"}
    assert found == [
        ("events-2.csv", 3, 1, {"line": "half"}),
        ("events-2.csv", 4, 2, unknown),
        ("events.csv", 6, 7, unknown | {"user": "u2", "time": "2024-01-03"}),
    ]


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2023-11-14 22:13:20", 1_700_000_000_000_000),
        ("2023-11-14T22:13Z", 1_699_999_980_000_000),
        ("2023-11-14 23:13:20.5+01", 1_700_000_000_500_000),
        ("2023-11-14T23:43:20.1234567+0130", 1_700_000_000_123_456),
        ("2023-11-14T17:13:20 -05:00", 1_700_000_000_000_000),
        ("2023-11-15", 1_700_006_400_000_000),
    ],
)
def test_iso_times(folder: Path, text: str, us: int) -> None:
    (folder / "events.csv").write_text(f"user,item,time,kind,stars\nu1,a,{text},view,1\n")
    ingest(source(folder), folder / "snapshot")
    (event,) = read(folder, "events")
    assert round(event["timestamp"].timestamp() * 1e6) == us


@pytest.mark.parametrize("text", ["2023", "12:30", "epoch", "2023-13-01", "2023-11-14 25:00"])
def test_what_is_no_iso_time(folder: Path, text: str) -> None:
    (folder / "events.csv").write_text(
        f"user,item,time,kind,stars\nu1,a,{text},view,1\nu1,a,2023-11-14,view,1\n"
    )
    summary = ingest(source(folder, max_reject_fraction=0.5), folder / "snapshot")
    assert summary["rejected"]["events"] == {"unparseable timestamp": 1}


@pytest.mark.parametrize(
    ("cleaning", "advice"),
    [
        (
            {"max_future_days": 1},
            r"in the future in column 'time': 1 .*time_unit or time_format",
        ),
        ({"latest": "2024-01-01"}, r"after the latest time: 1 rows.*source\.cleaning"),
    ],
)
def test_what_a_rule_drops_is_no_fault_of_the_delimiter(
    folder: Path, cleaning: dict[str, Any], advice: str
) -> None:
    (folder / "events.csv").write_text("user,item,time,kind,stars\nu1,a,2199-01-01,view,1\n")
    with pytest.raises(IngestError, match=advice):
        ingest(source(folder, cleaning=cleaning), folder / "snapshot")


def test_times_by_a_pattern(folder: Path) -> None:
    (folder / "events.csv").write_text(
        "user,item,time,kind,stars\nu1,a,14.11.2023 22:13,view,1\nu1,b,2023-11-14,view,1\n"
    )
    events = {"time_format": "%d.%m.%Y %H:%M"}
    summary = ingest(source(folder, events, max_reject_fraction=0.5), folder / "snapshot")
    assert summary["rejected"]["events"] == {"unparseable timestamp": 1}
    assert read(folder, "events")[0]["timestamp"].timestamp() == 1_699_999_980


def test_threads_and_memory_do_not_change_the_snapshot(folder: Path) -> None:
    lines = "".join(
        f"u{n % 97},{'abc'[n % 3]},2024-01-{1 + n % 28:02},view,{n % 5}\n" for n in range(200_000)
    )
    (folder / "events.csv").write_text("user,item,time,kind,stars\n" + lines)
    found = set()
    for threads, memory in ((1, "200MB"), (2, "2GB")):
        engine = {"threads": threads, "memory": memory}
        config = source(folder, engine=engine, max_reject_fraction=1.0)
        found.add(ingest(config, folder / "snapshot")["fingerprint"])
    assert len(found) == 1
