"""JSON Lines, parquet, times and every rule through both engines: the same snapshot."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from both_engines import assert_same

TITLES = [
    "the quick brown fox jumps over the lazy dog and then sleeps until the next morning comes",
    "The quick brown fox jumps over the lazy dog, and then sleeps until the next morning comes!",
    "a chair of oak",
    "une chaise en bois de chêne pour la salle à manger de la maison",
    "lamp",
    None,
]


def items(folder: Path) -> dict[str, Any]:
    table = pa.table(
        {
            "id": pa.array(range(6), pa.int32()),
            "title": TITLES,
            "kinds": [["k", " "], None, [], ["x", "y"], [None], ["z"]],
            "price": [1.5, None, 1e7, 2.0, 0.1, 3.0],
        }
    )
    pq.write_table(table, folder / "items.parquet")
    return {
        "path": str(folder / "items.parquet"),
        "format": "parquet",
        "columns": {"item_id": "id", "title": "title", "categories": "kinds"},
        "text": "{title} {price}",
    }


def test_json_lines_and_parquet(tmp_path: Path) -> None:
    """Two files with different fields, lines that are no objects, fields of mixed types."""
    first: list[Any] = [
        {"user": 1, "item": 0, "time": "2024-01-05T10:00:00Z", "tags": ["x"], "note": "n"},
        {"user": 2, "item": 1, "time": "2024-01-05 10:00", "note": 7, "ok": True},
        {"user": 2, "item": 1, "time": "2024-01-05 10:00:00.000000+00", "note": 7, "ok": True},
        {"user": 3, "item": 4, "time": "2024-01-05 12:00:00.1234567+01:30", "note": None},
        {"user": 3, "item": 4, "time": "12:30"},
        {"user": 3, "item": 4, "time": "2024-01-05 10"},
        {"user": None, "item": 4, "time": "2024-01-05"},
    ]
    lines = [json.dumps(row) for row in first]
    lines[2:2] = ["{broken", "", "   ", "5"]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    second = [{"item": 3, "user": 9, "time": "2024-02-29", "device": "télé", "amount": 2.5}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in second))
    events = {
        "path": str(tmp_path / "?.jsonl"),
        "format": "jsonl",
        "columns": {"user_id": "user", "item_id": "item", "timestamp": "time"},
        "time_unit": "iso",
    }
    summary = assert_same(
        {
            "name": "json",
            "max_reject_fraction": 1.0,
            "events": events,
            "items": items(tmp_path),
        },
        tmp_path,
    )
    assert summary["kept"]["events"] == 4
    assert summary["rejected"]["events"] == {
        "malformed line: not a JSON object": 2,
        "unparseable timestamp": 2,
        "exact duplicate": 1,
        "missing user_id": 1,
    }


def test_every_rule(tmp_path: Path) -> None:
    """Filters, weights, a pattern of time, users, and all that `source.cleaning` can ask for."""
    rows = [
        (f"u{n % 7}", str(n % 5), f"{1 + n // 40:02}/03/2024 10:{n % 60:02}", n % 4, "vbx"[n % 3])
        for n in range(200)
    ]
    rows += [("bot", str(n % 3), f"09/03/2024 11:{n:02}", 1, "v") for n in range(60)]
    rows += [("u1", "0", "1/3/2024 1:5", 1, "v"), ("u2", "4", "01/01/1990 00:00", 1, "v")]
    rows += [("rare", "2", "02/03/2024 00:00", 1, "b"), ("gone", "2", "02/03/2024 00:00", 1, "b")]
    names = ("who", "what", "when", "stars", "kind")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet", row_group_size=50)
    users = [f"u{n}" for n in range(7)] + ["bot", "rare", "u1", ""]
    (tmp_path / "users.tsv").write_text("id\tage\n" + "".join(f"{user}\t30\n" for user in users))
    summary = assert_same(
        {
            "name": "rules",
            "max_reject_fraction": 1.0,
            "events": {
                "path": str(tmp_path / "events.parquet"),
                "format": "parquet",
                "columns": {
                    "user_id": "who",
                    "item_id": "what",
                    "timestamp": "when",
                    "value": "stars",
                    "event_type": "kind",
                },
                "time_format": "%d/%m/%Y %H:%M",
                "filters": [
                    {"column": "kind", "one_of": ["v", "b"]},
                    {"column": "stars", "at_least": 1},
                ],
                "event_weights": {"b": 2.5},
            },
            "items": items(tmp_path),
            "users": {
                "path": str(tmp_path / "users.tsv"),
                "format": "tsv",
                "columns": {"user_id": "id"},
            },
            "cleaning": {
                "language": True,
                "near_duplicates": {"action": "merge", "threshold": 0.8},
                "repeat_window_s": 60,
                "bots": {"max_events_per_day": 30},
                "k_core": {"user_events": 3, "item_events": 2},
                "earliest": "2000-01-01",
            },
            "privacy": {"retention_days": 100},
            "quarantine": {"by": "day", "min_events": 1},
        },
        tmp_path,
    )
    assert set(summary["filtered"]["events"]) == {"kind in v, b", "stars >= 1"}
    assert summary["rejected"]["items"] == {"missing title": 1, "near duplicate": 1}
    assert {"unknown user", "bot by max_events_per_day", "repeat within the window"} <= set(
        summary["rejected"]["events"]
    )
    assert summary["rejected"]["users"] == {"duplicate user_id": 1, "missing user_id": 1}
    assert summary["kept"]["events"] > 20
