"""Positions: every row of a file has its own, in the order of the file, whatever surrounds it."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.engines.open import open_engine
from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading.raw import RAW_LINE, RAW_POSITION
from ingestion.sources import SourceConfig
from recommender import schema
from recommender.engines.settings import EngineConfig


def source(folder: Path, pattern: str, **events: Any) -> SourceConfig:
    pq.write_table(pa.table({"id": ["a"], "name": ["A"]}), folder / "items.parquet")
    content = {
        "name": "positions",
        "max_reject_fraction": 1.0,
        "events": {
            "path": str(folder / pattern),
            "format": "csv",
            "columns": {"user_id": "user", "item_id": "item", "timestamp": "n"},
            **events,
        },
        "items": {
            "path": str(folder / "items.parquet"),
            "format": "parquet",
            "columns": {"item_id": "id", "title": "name"},
        },
    }
    return SourceConfig.model_validate(content)


def positions(folder: Path) -> dict[str, int]:
    """Position by what says which row it is: column n, or the number in a malformed line."""
    found = {}
    for row in pq.read_table(schema.table_path(folder / "snapshot", "events")).to_pylist():
        found[str(int(row["timestamp"].timestamp()))] = row["position"]
    for row in pq.read_table(schema.table_path(folder / "snapshot", "rejects")).to_pylist():
        content = json.loads(row["row"])
        found[content.get("n") or content["line"].removeprefix("bad")] = row["position"]
    return found


@pytest.mark.parametrize("dirt", ["malformed", "blank", "quoted", "all"])
def test_of_lines_that_are_no_rows(tmp_path: Path, dirt: str) -> None:
    draw = random.Random(dirt)
    number = 0
    for file in range(2):
        lines = ["user,item,n,note"]
        for _ in range(1500):
            if dirt in ("blank", "all") and draw.random() < 0.05:
                lines.append("")
            note = '"two ""\nlines"' if dirt in ("quoted", "all") and draw.random() < 0.05 else "x"
            malformed = dirt != "blank" and draw.random() < (0.5 if 400 < number < 500 else 0.02)
            item = "a" if draw.random() < 0.9 else "unknown"
            lines.append(f"bad{number}" if malformed else f"u,{item},{number},{note}")
            number += 1
        (tmp_path / f"events-{file}.csv").write_text("\n".join(lines) + "\n" * (file == 0))
    summary = ingest(source(tmp_path, "events-?.csv"), tmp_path / "snapshot")
    assert summary["read"]["events"] == number
    assert positions(tmp_path) == {str(n): n for n in range(number)}


def test_of_json_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    for n in range(300):
        row = json.dumps({"user": "u", "item": "a" if n % 3 else "unknown", "n": str(n)})
        lines += [f"bad{n}" if n % 7 == 0 else row] + [""] * (n % 5 == 0) + ["  "] * (n % 11 == 0)
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    config = source(tmp_path, "events.jsonl", format="jsonl")
    summary = ingest(config, tmp_path / "snapshot")
    assert summary["rejected"]["events"]["malformed line: not a JSON object"] == 43
    assert positions(tmp_path) == {str(n): n for n in range(300)}


def test_an_object_without_anything_is_no_malformed_line(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"user":"u","item":"a","n":1}\n{}\n[1]\n"x"\n')
    config = source(tmp_path, "events.jsonl", format="jsonl")
    ingest(config, tmp_path / "snapshot")
    rows = pq.read_table(schema.table_path(tmp_path / "snapshot", "rejects")).to_pylist()
    assert [(row["reason"], json.loads(row["row"])) for row in rows] == [
        ("missing user_id", {"user": None, "item": None, "n": None}),
        ("malformed line: not a JSON object", {"line": "[1]"}),
        ("malformed line: not a JSON object", {"line": '"x"'}),
    ]


def test_of_several_parquet_files(tmp_path: Path) -> None:
    for file in range(3):
        numbers = [str(n) for n in range(file * 500, file * 500 + 500)]
        table = pa.table({"user": ["u"] * 500, "item": ["a", "gone"] * 250, "n": numbers})
        pq.write_table(table, tmp_path / f"events-{file}.parquet", row_group_size=70)
    ingest(source(tmp_path, "events-?.parquet", format="parquet"), tmp_path / "snapshot")
    assert positions(tmp_path) == {str(n): n for n in range(1500)}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_name_like_a_pattern_is_that_file_alone(tmp_path: Path, form: str) -> None:
    for number, name in enumerate(("e[1]", "e1", "e*")):
        path = tmp_path / f"{name}.{form}"
        if form == "csv":
            path.write_text(f"user,item,n\nu,a,{number}\nbad\n")
        elif form == "jsonl":
            path.write_text(f'{{"user": "u", "item": "a", "n": {number}}}\nbad\n')
        else:
            pq.write_table(pa.table({"user": ["u"], "item": ["a"], "n": [number]}), path)
    paths = [str(tmp_path / f"{name}.{form}") for name in ("e[[]1]", "e1", "e[*]")]
    summary = ingest(source(tmp_path, "", path=paths, format=form), tmp_path / "snapshot")
    assert (summary["read"]["events"], summary["kept"]["events"]) == (
        3 if form == "parquet" else 6,
        3,
    )


def test_names_stand_for_a_header(tmp_path: Path) -> None:
    (tmp_path / "events.dat").write_text("u::a::5\nu::b::6\n")
    config = source(tmp_path, "events.dat", delimiter="::", quote="", names=["user", "item", "n"])
    ingest(config, tmp_path / "snapshot")
    (row,) = pq.read_table(schema.table_path(tmp_path / "snapshot", "rejects")).to_pylist()
    assert (row["line"], json.loads(row["row"])) == (2, {"user": "u", "item": "b", "n": "6"})


def test_a_raw_table_has_what_was_read(tmp_path: Path) -> None:
    """Whoever looks at raw rows finds the file's columns untouched."""
    (tmp_path / "events.csv").write_text('user,item,n\n" u ",,007\nhalf\n')
    config = source(tmp_path, "events.csv")
    engine = open_engine(EngineConfig(), tmp_path)
    try:
        from ingestion.reading.landing import source_files

        files = source_files("events", config.events, tmp_path, engine.name)
        raw = engine.read("events", config.events, files)
        rows = engine.connection.table(raw.name).order_by(RAW_POSITION).to_pyarrow().to_pylist()
    finally:
        engine.close()
    assert [(row["user"], row["item"], row["n"], row[RAW_LINE]) for row in rows] == [
        (" u ", None, "007", None),
        (None, None, None, "half"),
    ]
    assert raw.place(1).endswith("events.csv', line 3")


def test_memory_that_does_not_do_says_what_to_change(tmp_path: Path) -> None:
    lines = "".join(f"user-{n:040},a,{n}\n" for n in range(200_000))
    (tmp_path / "events.csv").write_text("user,item,n\n" + lines)
    config = source(tmp_path, "events.csv")
    config = config.model_copy(update={"engine": EngineConfig(memory="1MB")})
    with pytest.raises(IngestError, match=r"DuckDB has no room for .*raise source\.engine\.memory"):
        ingest(config, tmp_path / "snapshot")
