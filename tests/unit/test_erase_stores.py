"""A user's rows in tables, in SQLite and in runs, under whatever name they are stored."""

import contextlib
import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ingestion.ingest import ingest
from ingestion.privacy.erased import read_erased
from ingestion.privacy.pseudonyms import pseudonym
from ingestion.sources import SourceConfig
from pipelines.erase import online
from pipelines.erase.erase import erase_user
from pipelines.erase.needle import Needle
from pipelines.erase.report import Report
from pipelines.erase.tables import erase_table
from recommender.files import read_json

KEYS = {"OLD_KEY": "a key of the tests alone, 1", "NEW_KEY": "a key of the tests alone, 2"}


def table(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_rows_go_and_an_equal_number_elsewhere_stays(tmp_path: Path) -> None:
    columns = {"user_id": ["7", "42", "8", "42", "9"], "item_id": ["42", "1", "2", "3", "42"]}
    path = table(tmp_path / "events.parquet", columns)
    report = Report(dry=False)
    assert erase_table(path, Needle(["42"]), report) == 2
    assert pq.read_table(path).to_pydict() == {
        "user_id": ["7", "8", "9"],
        "item_id": ["42", "2", "42"],
    }
    assert [each.what for each in report.found] == ["2 rows"]
    before = path.stat()
    assert erase_table(path, Needle(["42"]), report) == 0
    assert path.stat() == before


@pytest.mark.parametrize("extra", [{}, {"__position": [0, 1], "__malformed": [None, None]}])
def test_an_id_inside_of_another_users_is_not_touched(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    columns = {"user_id": ["ann-smith", "ann-smith-2"], "note": ["x", "likes ann-smith."]} | extra
    if extra:
        columns["__line"] = pa.nulls(2, pa.string())
        columns["__malformed"] = pa.nulls(2, pa.string())
    path = table(tmp_path / "rows.parquet", columns)
    erase_table(path, Needle(["ann-smith"]), Report(dry=False), ["user_id"])
    last = pq.read_table(path).to_pylist()[-1]
    assert (last["user_id"], last["note"]) == ("ann-smith-2", "likes [erased].")


def test_a_distinctive_id_goes_however_deep_it_stands(tmp_path: Path) -> None:
    deep = pa.map_(pa.string(), pa.list_(pa.struct([("by", pa.string()), ("n", pa.int64())])))
    columns = {
        "item_id": ["a", "b"],
        "details": pa.array([{"by": "alice-77", "n": 1}, None]),
        "seen": pa.array([[("k", [{"by": "by alice-77", "n": 2}])], None], deep),
        "kind": pa.array(["x", "alice-77"]).dictionary_encode(),
    }
    path = table(tmp_path / "items.parquet", columns)
    report = Report(dry=False)
    erase_table(path, Needle(["alice-77"]), report)
    assert [each.what for each in report.found] == ["2 rows (a mention)"]
    assert b"alice" not in path.read_bytes()
    assert pq.read_table(path).to_pydict() == {
        "item_id": ["a", "b"],
        "details": [{"by": "[erased]", "n": 1}, None],
        "seen": [[("k", [{"by": "by [erased]", "n": 2}])], None],
        "kind": ["x", "[erased]"],
    }


def test_of_rejects_the_row_stays_without_its_content(tmp_path: Path) -> None:
    rows = [{"who": "42", "item": "1"}, {"who": "7", "item": "42"}, {"line": "7;42"}, {"line": "7"}]
    columns = {
        "table": ["events"] * 4,
        "position": list(range(4)),
        "reason": ["late"] * 4,
        "row": [json.dumps(row) for row in rows],
    }
    path = table(tmp_path / "rejects.parquet", columns)
    assert erase_table(path, Needle(["42"]), Report(dry=False), ["who"]) == 0
    after = pq.read_table(path).to_pydict()
    assert after == columns | {"row": ["{}", columns["row"][1], "{}", columns["row"][3]]}


def test_a_mention_in_an_item_s_text(tmp_path: Path) -> None:
    columns = {
        "item_id": ["1", "2"],
        "text": ["by anna_k.", "by anna_k2"],
        "tags": [["anna_k"], []],
    }
    path = table(tmp_path / "items.parquet", columns)
    assert erase_table(path, Needle(["anna_k"]), Report(dry=False)) == 0
    after = pq.read_table(path).to_pydict()
    assert (after["text"], after["tags"]) == (["by [erased].", "by anna_k2"], [["[erased]"], []])


def store(path: Path, users: list[str]) -> Path:
    """As Feast's SQLite store has its rows."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        database.execute("CREATE TABLE history (entity_key BLOB, feature_name TEXT, value BLOB)")
        for user in users:
            name, value = b"user_id", user.encode()
            key = struct.pack("<III", 1, 2, len(name)) + name
            key += struct.pack("<II", 2, len(value)) + value
            database.execute("INSERT INTO history VALUES (?, 'history', ?)", (key, b"i1" * 999))
    return path


def test_sqlite_keeps_nothing_in_pages_or_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "_BUSY_S", 0.05)
    path = store(tmp_path / "online.db", ["u42", "xu42", "u421"])
    with contextlib.closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN").fetchall()
        reader.execute("SELECT * FROM history").fetchone()
        report = Report(dry=False)
        online.erase_sqlite(path, Needle(["u42"]), report)
        assert [each.left for each in report.found] == [False, True]
        assert "a reader held it" in report.found[1].done
    online.erase_sqlite(path, Needle(["u42"]), Report(dry=False))
    wanted = struct.pack("<I", 3) + b"u42"
    assert all(wanted not in file.read_bytes() for file in tmp_path.iterdir())
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM history").fetchone() == (2,)


def source(folder: Path, key: str | None) -> SourceConfig:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    events = {"path": str(folder / "events.csv"), "format": "csv", "columns": columns}
    columns = {"item_id": "id", "title": "name"}
    items = {"path": str(folder / "items.csv"), "format": "csv", "columns": columns}
    content = {"name": "Shop", "events": events, "items": items, "max_reject_fraction": 1.0}
    return SourceConfig.model_validate(content | {"privacy": {"user_key_env": key}})


def test_a_raw_id_erases_the_pseudonyms_of_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "events.csv").write_text("user,item,time\nu42,a,1\nu7,a,2\nu42,a,soon\n")
    (tmp_path / "items.csv").write_text("id,name\na,Alpha\n")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    home, runs = tmp_path / "home", tmp_path / "home" / "runs"
    for run, key in (("1", "OLD_KEY"), ("2", "NEW_KEY"), ("3", None), ("other", "NEW_KEY")):
        ingest(source(tmp_path, key), runs / run / "snapshot")
        name = "Another shop" if run == "other" else "Shop"
        (runs / run / "config.yaml").write_text(yaml.safe_dump({"source": {"name": name}}))
    names = ["u42", *(pseudonym("u42", value.encode()) for value in KEYS.values())]
    (runs / "2" / "run.log").write_text(f"user '{names[2]}'\n")
    config = source(tmp_path, "NEW_KEY")
    report = erase_user("u42", config, home=home, runs=runs, old_keys=["OLD_KEY"])
    assert not report.is_left
    for path in runs.rglob("*.*"):
        if "other" not in path.parts:
            text = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
            assert not any(name in text or name.encode() in path.read_bytes() for name in names)
    for run in ("1", "2", "3"):
        summary = read_json(runs / run / "snapshot" / "snapshot.json")
        assert (summary["kept"]["events"], summary["erased"]) == (1, {"events": 1, "users": 1})
    other = pq.read_table(runs / "other" / "snapshot" / "events.parquet")
    assert names[2] in other["user_id"].to_pylist()  # of another source it is another person
    assert "u42" in read_erased(home / "ingest" / "shop")


def test_golden_requests_that_are_the_user_s_are_told(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("")
    home, runs = tmp_path / "home", tmp_path / "runs"
    for folder in (runs / "1" / "windows", runs / "1" / "version"):
        folder.mkdir(parents=True)
    columns = {"user_id": ["u42", "u7"], "history": [["a", "b"], ["c"]]}
    table(runs / "1" / "windows" / "windows.parquet", columns)
    golden = [{"history": history, "item_ids": []} for history in (["a", "b"], ["c"], [])]
    (runs / "1" / "version" / "golden.json").write_text(json.dumps(golden))
    (runs / "1" / "version" / "kuberec.json").write_text("{}")
    report = erase_user("u42", source(tmp_path, None), home=home, runs=runs)
    assert [(each.what, each.left) for each in report.found] == [
        ("1 row", False),
        ("1 golden request with his history, without his id", True),
    ]
    assert json.loads((runs / "1" / "version" / "golden.json").read_text()) == golden
