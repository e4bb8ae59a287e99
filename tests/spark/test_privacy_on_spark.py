"""Pseudonyms, erased users, retention and partitions: on Spark as on DuckDB."""

from pathlib import Path

import pytest
from both_engines import assert_same

DAY = 86_400


def test_partitions_keys_and_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "a key of the tests alone, 1")
    days = {
        1: ["u1,a,{0},p1", " u1 ,b,{0},", ",a,{0},p2", "broken u1", "u2,nowhere,{0},"],
        2: ["u1,a,{0},", "u3,b,{0},p9", "u4,a,-5,"],
        9: ["u2,b,{0},x", "u1,a,{1},", "u3,a,140000,"],
    }
    for day, rows in days.items():
        folder = tmp_path / "events" / f"day={day}"
        folder.mkdir(parents=True)
        lines = "".join(f"{row}\n".format(day * DAY, 2 * DAY) for row in rows)
        (folder / "part.csv").write_text(f"user,item,time,phone\n{lines}")
    (tmp_path / "items.csv").write_text("id,name\na,Alpha\nb,Beta\n")
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    summary = assert_same(
        {
            "name": "private",
            "max_reject_fraction": 1.0,
            "events": {"path": str(tmp_path / "events"), "format": "csv", "columns": columns},
            "items": {
                "path": str(tmp_path / "items.csv"),
                "format": "csv",
                "columns": {"item_id": "id", "title": "name"},
            },
            "incremental": {"partition": "day=(?P<partition>[0-9]+)"},
            "cleaning": {"max_lateness_days": 0.25},
            "privacy": {
                "user_key_env": "SOME_KEY",
                "retention_days": 7.5,
                "drop_columns": {"events": ["phone"]},
            },
        },
        tmp_path,
    )
    assert len(summary["user_key"]) == 8
    assert summary["rejected"]["events"] == {
        "older than 7.5 days (retention)": 3,
        "late by more than 0.25 days": 1,
        "malformed line: missing columns": 1,
        "missing user_id": 1,
        "unknown item": 1,
        "exact duplicate": 1,
    }
