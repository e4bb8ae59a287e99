"""Sources in a database: a real PostgreSQL, a table and a query, read end to end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from postgres_server import postgres_server

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading import sql as reader
from ingestion.reading.landing import source_files, source_fingerprint
from ingestion.sources import EventsSource, SourceConfig
from recommender.schema import table_path

pytestmark = pytest.mark.timeout(120)
COLUMNS = {"user_id": "buyer", "item_id": "article", "timestamp": "at", "value": "price"}
EVENTS = {
    "format": "sql",
    "sql": {"url_env": "SHOP_DB", "table": "shop.events", "order_by": ["id"]},
    "columns": COLUMNS,
}
ITEMS = {
    "format": "sql",
    "sql": {"url_env": "SHOP_DB", "query": "SELECT id, name FROM shop.articles ORDER BY id;"},
    "columns": {"item_id": "id", "title": "name"},
}
MAKE = """
CREATE SCHEMA shop;
CREATE TYPE shop.kind AS ENUM ('view', 'buy');
CREATE TABLE shop.articles (id integer, name text);
INSERT INTO shop.articles VALUES (1, 'One'), (2, 'Two');
CREATE TABLE shop.events (id bigint PRIMARY KEY, buyer uuid, article integer, at timestamptz,
    price numeric, kind shop.kind, tags text[], extra jsonb);
INSERT INTO shop.events VALUES
    (3, '00000000-0000-0000-0000-00000000000b', 2, '2024-05-01 12:00+02', 0.10, 'view', '{}', NULL),
    (1, '00000000-0000-0000-0000-00000000000a', 1, '2024-05-01 10:00+00', 12.5, 'buy', '{x,y}',
     '{"a": 1}'),
    (2, NULL, 1, '2024-05-01 10:00+00', 1, 'buy', NULL, NULL);
CREATE ROLE reader LOGIN;
GRANT USAGE ON SCHEMA shop TO reader;
GRANT SELECT ON shop.articles TO reader;
ALTER ROLE reader SET default_transaction_read_only = on;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL of its own."""
    with postgres_server() as postgres:
        yield postgres.url


@pytest.fixture
def shop(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    monkeypatch.setenv("SHOP_DB", server)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(MAKE)
        yield connection
        connection.execute("DROP SCHEMA shop CASCADE; DROP ROLE reader")


def events(**sql: Any) -> EventsSource:
    return EventsSource.model_validate(EVENTS | {"sql": {"url_env": "SHOP_DB"} | sql})


def config(**given: Any) -> SourceConfig:
    return SourceConfig.model_validate(
        {"name": "shop", "events": EVENTS, "items": ITEMS, "max_reject_fraction": 0.5} | given
    )


def test_a_table_and_a_query_are_ingested(shop: Any, tmp_path: Path) -> None:
    summary = ingest(config(), tmp_path / "snapshot")
    assert summary["read"] == {"items": 2, "events": 3}
    assert summary["rejected"]["events"] == {"missing user_id": 1}
    first, second = pq.read_table(table_path(tmp_path / "snapshot", "events")).to_pylist()
    assert first["user_id"] == "00000000-0000-0000-0000-00000000000a"
    assert first["timestamp"].isoformat() == second["timestamp"].isoformat()
    assert first["timestamp"].isoformat() == "2024-05-01T10:00:00+00:00"
    assert (first["value"], second["value"]) == (12.5, 0.1)
    assert (first["kind"], first["tags"], first["extra"]) == ("buy", ["x", "y"], '{"a": 1}')
    (reject,) = pq.read_table(table_path(tmp_path / "snapshot", "rejects")).to_pylist()
    assert (reject["file"], reject["line"]) == ("$SHOP_DB/shop.events", 2)


def test_rows_come_in_batches_of_one_state_of_the_database(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_ROWS_A_BATCH", 1000)
    shop.execute(
        "INSERT INTO shop.events (id, article) SELECT n, 1 FROM generate_series(4, 5000) n"
    )
    source = events(table="shop.events", order_by=["id"])
    before = reader.sql_fingerprint("events", source.sql)
    with reader.sql_rows("events", source.sql) as (batches, content):
        first = batches.read_next_batch()
        shop.execute("DELETE FROM shop.events WHERE id > 1500")
        rest = batches.read_all()
    assert (first.num_rows, rest.num_rows) == (1000, 4000)
    whole = pa.concat_tables([pa.Table.from_batches([first]), rest])
    assert whole["id"].to_pylist() == list(range(1, 5001))
    assert content == before != reader.sql_fingerprint("events", source.sql)


def test_the_fingerprint_is_of_the_rows_whatever_their_order(shop: Any) -> None:
    found = [source_fingerprint(config())]
    shop.execute("UPDATE shop.events SET price = price WHERE id = 3")  # moves it within the table
    assert source_fingerprint(config()) == found[0]
    for change in (
        "UPDATE shop.events SET price = 0.11 WHERE id = 3",
        "INSERT INTO shop.events SELECT 4, buyer, article, at FROM shop.events WHERE id = 3",
        "UPDATE shop.articles SET name = 'Zwei' WHERE id = 2",
    ):
        shop.execute(change)
        found.append(source_fingerprint(config()))
    assert len(set(found)) == 4


def test_a_role_that_can_only_read_is_enough(
    shop: Any, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_DB", server.replace("postgres:@", "reader:@"))
    found = source_files("items", config().items, tmp_path, "duckdb")
    assert pq.read_table(found[0].path)["name"].to_pylist() == ["One", "Two"]
    with pytest.raises(IngestError, match=r"permission denied for table events; .*grant"):
        source_files("events", config().events, tmp_path, "duckdb")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ({"table": "shop.nothing"}, r"no table 'nothing' in schema shop; it has articles, events"),
        ({"table": "nothing"}, r"no table 'nothing' in its search path"),
        ({"table": "shop.events", "order_by": ["nr"]}, r"no column nr to order by; it has id, "),
        (
            {"query": "SELECT nr FROM shop.events"},
            r'column "nr" does not exist.*events\.sql\.query',
        ),
        ({"query": "DELETE FROM shop.events"}, r"syntax error at or near"),
        ({"query": "SELECT 1 AS a, 2 AS a"}, r"several columns named a"),
        ({"query": "SELECT 1 / (id - 2) FROM shop.events"}, r"division by zero"),
        ({"query": "SELECT timestamp 'infinity' AS t"}, r"does not fit its column's type .*cast"),
        ({"url_env": "NOT_SET", "table": "a"}, r"variable NOT_SET is not set; put the database's"),
    ],
)
def test_what_is_wrong_is_said(shop: Any, tmp_path: Path, sql: Any, message: str) -> None:
    with pytest.raises(IngestError, match=message):
        source_files("events", events(**sql), tmp_path, "duckdb")
    assert shop.execute("SELECT count(*) FROM shop.events").fetchone() == (3,)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:hush@host/db", "SHOP_DB is no PostgreSQL URL"),
        ("postgresql://me:hush@127.0.0.1:9/db", "cannot be reached, or refuses: .*refused"),
        ("postgresql://me:hu@hush@127.0.0.1:9/db", "the URL in SHOP_DB cannot be read; special"),
        ("postgresql://me:pw/hush@127.0.0.1:9/db", "the URL in SHOP_DB cannot be read; special"),
        ("postgresql://me:pw%hush@127.0.0.1:9/db", "the URL in SHOP_DB cannot be read; special"),
    ],
)
def test_no_message_shows_a_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, message: str
) -> None:
    monkeypatch.setenv("SHOP_DB", url)
    with pytest.raises(IngestError, match=message) as refused:
        source_files("events", events(table="shop.events"), tmp_path, "duckdb")
    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None
