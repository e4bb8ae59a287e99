"""Ingestion: every row is kept or rejected with a reason, and bad sources say what to do."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender import schema
from recommender.files import read_json

ITEMS = "id,name,kinds\na,Alpha,x|y\nb,Beta,\nc,Gamma,x\n"
EVENTS = "user,item,time\nu1,a,100\nu1,b,100\nu2,c,50\n"


def source(folder: Path, **changes: Any) -> SourceConfig:
    """A config over events.csv and items.csv; `changes` as {"events.format": "jsonl"}."""
    content: dict[str, Any] = {
        "name": "small",
        "max_reject_fraction": 0.9,
        "events": {
            "path": str(folder / "events.csv"),
            "format": "csv",
            "columns": {"user_id": "user", "item_id": "item", "timestamp": "time"},
        },
        "items": {
            "path": str(folder / "items.csv"),
            "format": "csv",
            "columns": {"item_id": "id", "title": "name", "categories": "kinds"},
            "category_separator": "|",
        },
    }
    for key, value in changes.items():
        table, _, name = key.rpartition("__")
        (content[table] if table else content)[name] = value
    return SourceConfig.model_validate(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events.csv").write_text(EVENTS)
    return tmp_path


def read(folder: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(schema.table_path(folder / "snapshot", table)).to_pylist()


def rejected(folder: Path) -> list[tuple[str, int, str]]:
    return [(row["table"], row["position"], row["reason"]) for row in read(folder, "rejects")]


def test_maps_to_the_schema_and_sorts(folder: Path) -> None:
    summary = ingest(source(folder), folder / "snapshot")
    events = pq.read_table(schema.table_path(folder / "snapshot", "events"))
    assert events.schema.remove_metadata() == schema.EVENTS
    rows = events.to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in rows] == [
        ("u1", "a"),
        ("u1", "b"),  # a tie: the file's order
        ("u2", "c"),
    ]
    assert rows[0]["timestamp"].timestamp() == 100
    assert rows[0]["event_type"] == "interaction"
    assert [row["categories"] for row in read(folder, "items")] == [["x", "y"], [], ["x"]]
    assert [row["user_id"] for row in read(folder, "users")] == ["u1", "u2"]
    assert summary == read_json(folder / "snapshot" / "snapshot.json")
    assert summary["read"] == {"events": 3, "items": 3}
    assert summary["kept"] == {"events": 3, "items": 3, "users": 2}
    left = {path.name for path in (folder / "snapshot").iterdir()}
    assert left == {f"{table}.parquet" for table in (*schema.TABLES, "rejects")} | {"snapshot.json"}


def test_every_unusable_row_is_rejected_with_its_reason(folder: Path) -> None:
    (folder / "items.csv").write_text(
        "id,name,kinds\na,Alpha,x\na,Again,x\n,Nameless,\nb, <b> </b> ,x\nc,Gamma,x\nshort\n"
    )
    (folder / "events.csv").write_text(
        "user,item,time,stars\nu1,a,100,5\nu1,a,100,5\n,a,1,1\nu1,,1,1\nu1,a,soon,1\n"
        "u1,b,1,1\nu1,a,101,many\nu1,a,102\nu1,a,1e99,1\nu1,c,nan,2\nu1,c,103,nan\nu2,c,104,4\n"
    )
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time", "value": "stars"}
    summary = ingest(source(folder, events__columns=columns), folder / "snapshot")
    assert rejected(folder) == [
        ("events", 1, "exact duplicate"),
        ("events", 2, "missing user_id"),
        ("events", 3, "missing item_id"),
        ("events", 4, "unparseable timestamp"),
        ("events", 5, "unknown item"),
        ("events", 6, "value is not a number"),
        ("events", 7, "malformed line: missing columns"),
        ("events", 8, "unparseable timestamp"),
        ("events", 9, "unparseable timestamp"),
        ("events", 10, "value is not a number"),
        ("items", 1, "duplicate item_id"),
        ("items", 2, "missing item_id"),
        ("items", 3, "missing title"),
        ("items", 5, "malformed line: missing columns"),
    ]
    assert [row["position"] for row in read(folder, "events")] == [0, 11]
    rows = {
        (row["table"], row["position"]): json.loads(row["row"]) for row in read(folder, "rejects")
    }
    assert rows["events", 4] == {"user": "u1", "item": "a", "time": "soon", "stars": "1"}
    assert rows["events", 7] == {"line": "u1,a,102"}
    for table in ("events", "items"):
        read_rows = summary["kept"][table] + sum(summary["rejected"][table].values())
        assert summary["read"][table] == read_rows


def test_other_columns_ride_along(folder: Path) -> None:
    (folder / "items.csv").write_text("id,name,kinds,released,text\na,Alpha,x,1999,body\n")
    (folder / "events.csv").write_text("user,item,time,device\nu1,a,1,phone\n")
    (folder / "users.csv").write_text("who,age\nu1,30\nu2,\n")
    users = {"path": str(folder / "users.csv"), "format": "csv", "columns": {"user_id": "who"}}
    columns = {"item_id": "id", "title": "name", "categories": "kinds", "year": "released"}
    config = source(
        folder, users=users, items__columns=columns, items__text="{title} ({year}) {source_text}"
    )
    ingest(config, folder / "snapshot")
    item = read(folder, "items")[0]
    assert (item["year"], item["source_text"]) == ("1999", "body")
    assert item["text"] == "Alpha (1999) body"
    assert read(folder, "events")[0]["device"] == "phone"
    assert read(folder, "users") == [{"user_id": "u1", "age": "30"}, {"user_id": "u2", "age": None}]


def test_a_template_cannot_name_what_it_makes(folder: Path) -> None:
    (folder / "items.csv").write_text("id,name,kinds,text\na,Alpha,,long ago\nb,Beta,,later\n")
    with pytest.raises(IngestError, match=r"names '\{text\}', but the items have .*source_text"):
        ingest(source(folder, items__text="{title}: {text}"), folder / "snapshot")
    ingest(source(folder, items__text="{title}: {source_text}"), folder / "snapshot")
    assert read(folder, "items")[0]["text"] == "Alpha: long ago"


def test_texts_are_cleaned_and_articles_moved(folder: Path) -> None:
    (folder / "items.csv").write_text(
        'id,name,kinds\na,"Godfather, The",\nb,"Tom &amp; <i>Jerry</i>",\nc,"20,000 Leagues",\n'
    )
    ingest(source(folder, items__title_article=True), folder / "snapshot")
    titles = [row["title"] for row in read(folder, "items")]
    assert titles == ["The Godfather", "Tom & Jerry", "20,000 Leagues"]


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("s", ["1700000000.123456", "1700000001"]),
        ("ms", ["1700000000123.456", "1700000001000"]),
        ("us", ["1700000000123456", "1700000001000000"]),
        ("iso", ["2023-11-14T22:13:20.123456Z", "2023-11-14 22:13:21"]),
    ],
)
def test_time_units(folder: Path, unit: str, values: list[str]) -> None:
    lines = "".join(f"u1,a,{value}\n" for value in values)
    (folder / "events.csv").write_text("user,item,time\n" + lines)
    ingest(source(folder, events__time_unit=unit), folder / "snapshot")
    times = pq.read_table(schema.table_path(folder / "snapshot", "events"))["timestamp"]
    assert times.cast(pa.int64()).to_pylist() == [1700000000123456, 1700000001000000]


def test_jsonl_and_parquet(folder: Path) -> None:
    lines = [
        {"user": 1, "item": "a", "time": 5, "tags": ["x"], "note": "n"},
        {"user": 2, "item": "b", "time": 6, "note": 7},
    ]
    text = json.dumps(lines[0]) + "\n{broken\n" + json.dumps(lines[1]) + "\n"
    (folder / "events.jsonl").write_text(text)
    items = pa.table({"id": ["a", "b"], "name": ["A", "B"], "kinds": [["k", " "], None]})
    pq.write_table(items, folder / "items.parquet")
    config = source(
        folder,
        events__path=str(folder / "events.jsonl"),
        events__format="jsonl",
        items__path=str(folder / "items.parquet"),
        items__format="parquet",
        items__category_separator=None,
    )
    ingest(config, folder / "snapshot")
    assert [row["categories"] for row in read(folder, "items")] == [["k"], []]
    events = read(folder, "events")
    assert [(row["user_id"], row["tags"], row["note"]) for row in events] == [
        ("1", ["x"], "n"),
        ("2", None, "7"),
    ]
    assert rejected(folder) == [("events", 1, "malformed line: not a JSON object")]


def test_several_files_number_their_rows_on(folder: Path) -> None:
    (folder / "e1.csv").write_text("user,item,time\nu1,a,1\nu1\n")
    (folder / "e2.csv").write_text("user,item,time\nu1\nu1,b,2\n")
    ingest(source(folder, events__path=str(folder / "e?.csv")), folder / "snapshot")
    assert [row["position"] for row in read(folder, "events")] == [0, 3]
    assert [position for _, position, _ in rejected(folder)] == [1, 2]


def test_events_of_users_that_the_table_lacks_are_rejected(folder: Path) -> None:
    (folder / "users.csv").write_text("user\nu1\nu1\n")
    users = {"path": str(folder / "users.csv"), "format": "csv", "columns": {"user_id": "user"}}
    ingest(source(folder, users=users), folder / "snapshot")
    assert rejected(folder) == [("events", 2, "unknown user"), ("users", 1, "duplicate user_id")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gzip"])
def test_marks_and_compression(folder: Path, encoding: str) -> None:
    path = folder / ("events.csv.gz" if encoding == "gzip" else "events.csv")
    path.write_bytes(
        gzip.compress(EVENTS.encode()) if encoding == "gzip" else EVENTS.encode(encoding)
    )
    summary = ingest(source(folder, events__path=str(path)), folder / "snapshot")
    assert summary["kept"]["events"] == 3


def test_typed_headers_lose_their_types(folder: Path) -> None:
    (folder / "events.csv").write_text("user:token,item:token,time:float\nu1,a,1\n")
    assert ingest(source(folder), folder / "snapshot")["kept"]["events"] == 1


def test_equal_sources_give_equal_snapshots(folder: Path) -> None:
    lines = "".join(f"u{n % 97},{'abc'[n % 3]},{n // 7}\n" for n in range(5000))
    (folder / "events.csv").write_text("user,item,time\n" + lines)
    first = ingest(source(folder), folder / "snapshot")
    assert ingest(source(folder), folder / "snapshot") == first


@pytest.mark.parametrize(
    ("events", "changes", "message"),
    [
        (
            "user,thing,time\nu1,a,1\n",
            {},
            r"no column 'item' \(for item_id\); it has 'user', 'thing'",
        ),
        ("user;item;time\nu1;a;1\n", {}, r"events\.delimiter"),
        ("user,item,time\n", {}, r"events: file .*events\.csv' has columns .* but no rows"),
        ("", {}, r"events\.csv' is empty"),
        ("\nu,i,t\n1,2,3\n", {}, r"events\.csv' is empty, or its first line is"),
        ("user,item,time,item\nu1,a,1,a\n", {}, r"rename one"),
        ("{}", {"events__format": "parquet"}, r"it is no parquet file"),
        ("[1]\n", {"events__format": "jsonl"}, r"each be one JSON object"),
        ("[1]\n{}\n", {"events__format": "jsonl"}, r"each be one JSON object"),
        ("user,item,time\nu1,a,1\n", {"items__text": "{plot}"}, r"names '\{plot\}', but the items"),
    ],
)
def test_a_source_that_does_not_fit_says_what_to_do(
    folder: Path, events: str, changes: dict[str, Any], message: str
) -> None:
    (folder / "events.csv").write_text(events)
    with pytest.raises(IngestError, match=message):
        ingest(source(folder, **changes), folder / "snapshot")
    assert not (folder / "snapshot").exists()


def test_an_undecodable_file_says_what_to_do(folder: Path) -> None:
    (folder / "items.csv").write_bytes(ITEMS.replace("Alpha", "Caf\xe9").encode("latin-1"))
    with pytest.raises(IngestError, match=r"line 2 is not utf-8; set source\.items\.encoding"):
        ingest(source(folder), folder / "snapshot")
    ingest(source(folder, items__encoding="latin-1"), folder / "snapshot")
    assert read(folder, "items")[0]["title"] == "Café"


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("csv", b"user,item,time\r\nu1,a,1\r\nu2,b,2\n", "lines end in different ways.*dos2unix"),
        ("csv", b'user,item,"time\n' + b"u1,a,1\n" * 20_000, "header cannot be read.*never closed"),
        ("csv", b"user,item,time\nu1,a," + b"9" * 2_100_000, "Line: 2: Maximum line size"),
        ("jsonl", b'\xef\xbb\xbf{"user":"u1","item":"a","time":1}\n', "byte order mark.* `sed"),
        ("jsonl", b'{"user":"u","item":"a","time":1}\n"\xff"\n', "Line: 2.* not utf-8"),
    ],
)
def test_a_file_that_breaks_the_rules_says_how(
    folder: Path, format: str, content: bytes, message: str
) -> None:
    (folder / "odd").write_bytes(content)
    changes = {"events__path": str(folder / "odd"), "events__format": format}
    with pytest.raises(IngestError, match=message):
        ingest(source(folder, **changes), folder / "snapshot")


def test_too_many_unparseable_timestamps_stop_the_run(folder: Path) -> None:
    (folder / "events.csv").write_text(EVENTS.replace("100", "2024-01-05"))
    with pytest.raises(IngestError) as caught:
        ingest(source(folder, max_reject_fraction=0.05), folder / "snapshot")
    message = str(caught.value)
    assert "2 of 3 rows cannot be used (66.7%; source.max_reject_fraction allows 5.0%)" in message
    assert "unparseable timestamp in column 'time': 2 rows, such as '2024-01-05'" in message
    assert "events.csv', line 2)" in message
    assert "set source.events.time_unit" in message


@pytest.mark.parametrize("incremental", [{}, {"partition": "(?P<partition>csv)"}])
def test_rows_after_a_quote_that_is_never_closed_are_not_one(
    folder: Path, incremental: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "a key of the tests alone, 1")
    lines = [f"u{n},a,{n}\n" for n in range(100)]
    (folder / "events.csv").write_text(f'user,item,time\n{"".join(lines)}"{"".join(lines)}')
    config = source(
        folder,
        max_reject_fraction=0.4,
        incremental=incremental,
        privacy={"user_key_env": "SOME_KEY"},
    )
    with pytest.raises(IngestError, match=r"50\.0%(.|\n)*99 more lines .*set source\.events"):
        ingest(config, folder / "snapshot")


def test_nothing_usable_stops_the_run_whatever_the_limit(folder: Path) -> None:
    (folder / "items.csv").write_text("id,name,kinds\na,,\n")
    with pytest.raises(IngestError, match="missing title in column 'name': 1 rows"):
        ingest(source(folder, max_reject_fraction=1.0), folder / "snapshot")


def test_items_without_text_are_rejected(folder: Path) -> None:
    (folder / "items.csv").write_text("id,name,kinds,plot\na,Alpha,x,good\nb,Beta,x, \n")
    ingest(source(folder, items__text="{plot}."), folder / "snapshot")
    assert ("items", 1, "no text") in rejected(folder)
    assert ("events", 1, "unknown item") in rejected(folder)


def test_a_folder_that_cannot_be_written_says_so(folder: Path) -> None:
    (folder / "file").write_text("")  # also holds for root, whom permissions do not stop
    with pytest.raises(PermissionError, match=r"cannot write to folder .*choose another one"):
        ingest(source(folder), folder / "file" / "snapshot")
