"""Sources in a lake: Delta and Iceberg tables that their own libraries wrote, read end to end."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import Catalog, load_catalog
from s3_server import s3_server

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading.lake import lake_rows
from ingestion.reading.landing import source_files, source_fingerprint
from ingestion.sources import SourceConfig, TableSource
from recommender.schema import table_path

pytestmark = pytest.mark.timeout(120)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVENTS = pa.table(
    {
        "u": ["a", "b", "c"],
        "i": ["1", "2", "1"],
        "day": ["x", "y", "x"],
        "t": pa.array([NOON] * 3, pa.timestamp("us", "UTC")),
    }
)
ITEMS = pa.table({"i": ["1", "2"], "n": ["One", "Two"]})
COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t"}


def config(events: dict[str, Any], items: dict[str, Any]) -> SourceConfig:
    return SourceConfig.model_validate(
        {
            "name": "lake",
            "events": events | {"columns": COLUMNS},
            "items": items | {"columns": {"item_id": "i", "title": "n"}},
        }
    )


def rows(work: Path, **given: Any) -> list[dict[str, Any]]:
    source = TableSource.model_validate({"columns": {}} | given)
    (file,) = source_files("events", source, work, "duckdb")
    return pq.read_table(file.path).to_pylist()


@pytest.fixture
def delta(tmp_path: Path) -> dict[str, Any]:
    write_deltalake(tmp_path / "events", EVENTS.slice(0, 2), partition_by=["day"])
    write_deltalake(tmp_path / "events", EVENTS.slice(2), mode="append")
    return {"format": "delta", "path": str(tmp_path / "events")}


def properties(folder: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = load_catalog("lake", warehouse=f"file://{tmp_path}/house", **properties(tmp_path))
    made.create_namespace("shop")
    made.create_table("shop.events", schema=EVENTS.schema).append(EVENTS.slice(0, 2))
    made.load_table("shop.events").append(EVENTS.slice(2))
    made.create_table("shop.items", schema=ITEMS.schema).append(ITEMS)
    return made


def test_both_lakes_are_ingested(delta: Any, catalog: Catalog, tmp_path: Path) -> None:
    iceberg = {"catalog": "lake", "table": "shop.items", "properties": properties(tmp_path)}
    wanted = config(delta, {"format": "iceberg", "iceberg": iceberg})
    summary = ingest(wanted, tmp_path / "snapshot")
    assert summary["kept"] == {"events": 3, "items": 2, "users": 3}
    events = pq.read_table(table_path(tmp_path / "snapshot", "events")).to_pylist()
    assert {row["timestamp"] for row in events} == {NOON}
    assert [(row["user_id"], row["day"]) for row in events] == [("a", "x"), ("b", "y"), ("c", "x")]
    before = source_fingerprint(wanted)
    assert summary["source"]["files"] == source_fingerprint(wanted) == before
    write_deltalake(delta["path"], EVENTS, mode="append")
    after = source_fingerprint(wanted)
    catalog.load_table("shop.items").append(ITEMS)
    assert len({before, after, source_fingerprint(wanted)}) == 3


def test_a_delta_table_is_read_as_it_is_or_was(delta: Any, tmp_path: Path) -> None:
    assert sorted(row["u"] for row in rows(tmp_path, **delta)) == ["a", "b", "c"]
    assert rows(tmp_path, **delta) == rows(tmp_path, **delta)
    assert sorted(row["u"] for row in rows(tmp_path, **delta, version=0)) == ["a", "b"]
    DeltaTable(delta["path"]).delete("u = 'a'")
    assert sorted(row["u"] for row in rows(tmp_path, **delta)) == ["b", "c"]
    with pytest.raises(IngestError, match=r"has no version 7; its newest is 2: .*events\.version"):
        rows(tmp_path, **delta, version=7)
    with pytest.raises(IngestError, match=r"is no Delta table \(a folder with _delta_log\)"):
        rows(tmp_path, format="delta", path=str(tmp_path / "nowhere"))


def test_a_delta_table_with_deletion_vectors_is_read(tmp_path: Path) -> None:
    place = tmp_path / "marked"
    marks = {"delta.enableDeletionVectors": "true"}
    write_deltalake(place, EVENTS, configuration=marks)
    assert "deletionVectors" in (DeltaTable(place).protocol().reader_features or [])
    found = rows(tmp_path, format="delta", path=str(place))
    assert sorted(row["u"] for row in found) == ["a", "b", "c"]


def test_an_iceberg_table_is_read_as_it_is_or_was(catalog: Catalog, tmp_path: Path) -> None:
    made = catalog.load_table("shop.events")
    given = {"catalog": "lake", "table": "shop.events", "properties": properties(tmp_path)}
    table = {"format": "iceberg", "iceberg": given}
    assert sorted(row["u"] for row in rows(tmp_path, **table)) == ["a", "b", "c"]
    assert rows(tmp_path, **table) == rows(tmp_path, **table)
    first = made.snapshots()[0].snapshot_id
    assert [row["u"] for row in rows(tmp_path, **table, version=first)] == ["a", "b"]
    made.delete("u = 'a'")
    with made.update_schema() as update:
        update.rename_column("u", "buyer")
    assert sorted(row["buyer"] for row in rows(tmp_path, **table)) == ["b", "c"]
    place = made.location()
    for path in (place, place.removeprefix("file://"), made.metadata_location):
        found = rows(tmp_path, format="iceberg", path=path)
        assert sorted(row["buyer"] for row in found) == ["b", "c"]


def test_an_iceberg_file_at_a_time(catalog: Catalog, tmp_path: Path) -> None:
    """PyIceberg's own reader has all files in memory at once; here one is read when it is due."""
    given = {"catalog": "lake", "table": "shop.events", "properties": properties(tmp_path)}
    source = TableSource.model_validate({"format": "iceberg", "iceberg": given, "columns": {}})
    files = catalog.load_table("shop.events").inspect.files()["file_path"].to_pylist()
    last = Path(max(files).removeprefix("file://"))

    def read() -> Iterator[int]:
        with lake_rows("events", source) as (batches, _):
            last.unlink()
            for batch in batches:
                yield batch.num_rows

    reading = read()
    assert next(reading) > 0
    with pytest.raises(IngestError, match=last.name):
        next(reading)


def test_what_an_iceberg_catalog_does_not_have(catalog: Catalog, tmp_path: Path) -> None:
    catalog.create_table("shop.empty", schema=ITEMS.schema)

    def refused(message: str, **given: Any) -> None:
        with pytest.raises(IngestError, match=message):
            rows(tmp_path, **{"format": "iceberg"} | given)

    iceberg = {"catalog": "lake", "table": "shop.events", "properties": properties(tmp_path)}
    refused("has no table 'shop.no'; correct source", iceberg=iceberg | {"table": "shop.no"})
    refused("has no table 'no.no'; correct source", iceberg=iceberg | {"table": "no.no"})
    refused("has no snapshot yet, so no rows", iceberg=iceberg | {"table": "shop.empty"})
    refused("has no such snapshot; the last that it has: [0-9]+", iceberg=iceberg, version=5)
    refused("PYICEBERG_CATALOG__LAKE__URI", iceberg=iceberg | {"properties": {}})
    refused("is no Iceberg table .*give `iceberg`", path=str(tmp_path))


def test_lakes_in_a_bucket(tmp_path: Path) -> None:
    with s3_server(tmp_path) as endpoint:
        import fsspec

        files = fsspec.filesystem("s3", client_kwargs={"endpoint_url": endpoint})
        files.mkdir("lake")
        write_deltalake(tmp_path / "delta", EVENTS)
        files.put(str(tmp_path / "delta"), "lake/delta", recursive=True)
        house = {"warehouse": "s3://lake/house", "s3.endpoint": endpoint, "s3.region": "us-east-1"}
        made = load_catalog("lake", **properties(tmp_path), **house)
        made.create_namespace("shop")
        made.create_table("shop.items", schema=ITEMS.schema).append(ITEMS)
        place = made.load_table("shop.items").location()
        wanted = config(
            {"format": "delta", "path": "s3://lake/delta"}, {"format": "iceberg", "path": place}
        )
        summary = ingest(wanted, tmp_path / "snapshot")
        assert summary["kept"] == {"events": 3, "items": 2, "users": 3}
        assert summary["source"]["files"] == source_fingerprint(wanted)
