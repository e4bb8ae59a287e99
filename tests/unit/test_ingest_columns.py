"""Columns of any name and type: what they hold arrives as it is, or it is said why it cannot."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender import schema


def ingested(folder: Path, pattern: str, **events: Any) -> list[dict[str, Any]]:
    """Events as kept, by position; items are a and b."""
    pq.write_table(pa.table({"id": ["a", "b"], "name": ["A", "B"]}), folder / "items.parquet")
    columns = {"user_id": "user", "item_id": "item", "timestamp": "n"}
    content = {
        "name": "columns",
        "max_reject_fraction": 1.0,
        "events": {"path": str(folder / pattern), "format": "parquet", "columns": columns} | events,
        "items": {
            "path": str(folder / "items.parquet"),
            "format": "parquet",
            "columns": {"item_id": "id", "title": "name"},
        },
    }
    ingest(SourceConfig.model_validate(content), folder / "snapshot")
    rows = pq.read_table(schema.table_path(folder / "snapshot", "events")).to_pylist()
    return sorted(rows, key=lambda row: row["position"])


def write(folder: Path, name: str = "events.parquet", **columns: Any) -> None:
    table = {"user": ["u1", "u2"], "item": ["a", "b"], "n": [1, 2]} | columns
    pq.write_table(pa.table(table), folder / name)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_a_column_of_times_is_one_whatever_its_unit_and_zone(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    moment = datetime(2024, 3, 31, 1, 30, tzinfo=UTC)  # in Berlin an hour is skipped then
    times = pa.array([moment.replace(tzinfo=None)] * 2, pa.timestamp(unit, zone))
    write(tmp_path, n=times, seen=times)
    rows = ingested(tmp_path, "events.parquet")
    assert [row["timestamp"] for row in rows] == [moment] * 2
    assert {row["seen"].replace(tzinfo=UTC) for row in rows} == {moment}


def test_files_that_differ_in_types_lose_nothing(tmp_path: Path) -> None:
    write(tmp_path, "e1.parquet", stars=[4, 5], note=pa.nulls(2), size=pa.array([1, 2], pa.int32()))
    write(tmp_path, "e2.parquet", stars=[4.5, 3.0], note=["x", "y"], size=[1 << 40, 3], n=[3, 4])
    columns = {"user_id": "user", "item_id": "item", "timestamp": "n", "value": "stars"}
    rows = ingested(tmp_path, "e?.parquet", columns=columns)
    assert [row["value"] for row in rows] == [4, 5, 4.5, 3]
    assert [row["note"] for row in rows] == [None, None, "x", "y"]
    assert [row["size"] for row in rows] == [1, 2, 1 << 40, 3]


def test_an_unsigned_number_that_is_no_time_is_rejected(tmp_path: Path) -> None:
    write(tmp_path, n=pa.array([2**64 - 1, 1_700_000_000_123_456], pa.uint64()))
    (row,) = ingested(tmp_path, "events.parquet", time_unit="us")
    assert (row["user_id"], row["timestamp"].microsecond) == ("u2", 123_456)


def test_ids_of_json_are_as_they_were_written(tmp_path: Path) -> None:
    ids = ["123456789012345678901", "123456789012345678902", "9007199254740993", "1.5"]
    lines = [f'{{"user": {each}, "item": "a", "n": 1}}\n' for each in ids]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    rows = ingested(tmp_path, "events.jsonl", format="jsonl")
    assert [row["user_id"] for row in rows] == ids


@pytest.mark.parametrize("name", ["rowid", "RowID", "hash", "Hash", "repetition", "rows"])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_names_that_engines_and_rules_use(tmp_path: Path, name: str, form: str) -> None:
    users = ["u1", "u1", None, "u2"]
    rows = [{"user": each, "item": "a", "n": "1", name: "7"} for each in users]
    lines = [json.dumps(row) if row["user"] else "bad" for row in rows]
    if form == "csv":
        lines = [f"{row['user']},a,1,7" if row["user"] else "bad" for row in rows]
        lines.insert(0, f"user,item,n,{name}")
    (tmp_path / f"events.{form}").write_text("\n".join(lines))
    kept = ingested(tmp_path, f"events.{form}", format=form)
    assert [(row["user_id"], row["position"], row[name]) for row in kept] == [
        ("u1", 0, "7"),
        ("u2", 3, "7"),
    ]
    rejects = pq.read_table(schema.table_path(tmp_path / "snapshot", "rejects")).to_pylist()
    assert [(row["position"], json.loads(row["row"])) for row in rejects] == [
        (1, rows[1]),
        (2, {"line": "bad"}),
    ]


@pytest.mark.parametrize("name", ["file_index", "file_row_number"])
def test_names_that_parquet_cannot_have_say_so(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: [5, 6]})
    with pytest.raises(IngestError, match=f"has a column '{name}'.* rename it"):
        ingested(tmp_path, "events.parquet")


def test_parquet_that_holds_no_text_says_which(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"b\xffd"]).buffers())
    write(tmp_path, note=broken)
    with pytest.raises(IngestError, match=r"events\.parquet.* not valid UTF8.*put that file"):
        ingested(tmp_path, "events.parquet")
