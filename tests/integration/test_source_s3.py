"""Sources in a bucket, read end to end from a real S3 server (moto's)."""

import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import s3_server

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading.landing import source_files, source_fingerprint
from ingestion.sources import SourceConfig
from recommender.schema import table_path

pytestmark = pytest.mark.timeout(120)
BUCKET = "shop"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with s3_server(tmp_path_factory.mktemp("s3")):
        import fsspec

        files = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        files.mkdir(BUCKET)
        files.pipe(f"{BUCKET}/events/day=1/part.csv", b"u,i,t\na,1,10\nb,2,20\n")
        files.pipe(f"{BUCKET}/events/day=2/part.csv.gz", gzip.compress(b"u,i,t\na,2,30\n,1,5\n"))
        files.pipe(f"{BUCKET}/events/_SUCCESS", b"")
        titles = io.BytesIO()
        pq.write_table(pa.table({"i": ["1", "2"], "title": ["One", "Two"]}), titles)
        files.pipe(f"{BUCKET}/items/items.parquet", titles.getvalue())
        yield files


def config(events: Any, **storage: Any) -> SourceConfig:
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t"}
    items = {
        "path": f"s3://{BUCKET}/items/items.parquet",
        "format": "parquet",
        "columns": {"item_id": "i", "title": "title"},
    }
    table = {"path": events, "format": "csv", "columns": columns}
    for one in (items, table):
        one["storage_options"] = storage
    return SourceConfig.model_validate(
        {"name": "s3", "events": table, "items": items, "max_reject_fraction": 0.5}
    )


@pytest.mark.parametrize(
    "path",
    [
        f"s3://{BUCKET}/events",
        f"s3://{BUCKET}/events/*/part.csv*",
        [f"s3://{BUCKET}/events/day=1/part.csv", f"s3://{BUCKET}/events/day=2/*.gz"],
    ],
)
def test_a_bucket_is_ingested(s3: Any, tmp_path: Path, path: Any) -> None:
    summary = ingest(config(path), tmp_path / "snapshot")
    assert summary["read"] == {"items": 2, "events": 4}
    assert summary["kept"] == {"events": 3, "items": 2, "users": 2}
    events = pq.read_table(table_path(tmp_path / "snapshot", "events")).to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in events] == [
        ("a", "1"),
        ("a", "2"),
        ("b", "2"),
    ]
    (reject,) = pq.read_table(table_path(tmp_path / "snapshot", "rejects")).to_pylist()
    assert reject["reason"] == "missing user_id"
    assert (reject["file"], reject["line"]) == (f"s3://{BUCKET}/events/day=2/part.csv.gz", 3)


def test_the_endpoint_can_stand_in_the_config(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "region": "us-east-1"}
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    wanted = config(f"s3://{BUCKET}/events", **storage)
    assert ingest(wanted, tmp_path / "snapshot")["kept"]["events"] == 3
    found = source_files("events", wanted.events, tmp_path, "duckdb")
    assert [file.name for file in found] == [
        f"s3://{BUCKET}/events/day=1/part.csv",
        f"s3://{BUCKET}/events/day=2/part.csv.gz",
    ]
    on_spark = source_files("events", wanted.events, tmp_path, "spark")
    assert [file.path for file in on_spark] == [file.path.replace("s3:", "s3a:") for file in found]


def test_the_fingerprint_follows_what_is_written(s3: Any) -> None:
    s3.pipe(f"{BUCKET}/late/a.csv", b"u,i,t\na,1,10\n")
    wanted = config(f"s3://{BUCKET}/late")
    before = source_fingerprint(wanted)
    assert source_fingerprint(wanted) == before
    s3.pipe(f"{BUCKET}/late/a.csv", b"u,i,t\na,1,11\n")
    assert source_fingerprint(wanted) != before


def test_what_is_missing_or_refused_is_said(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # no waiting between tries
    for path in (f"s3://{BUCKET}/nothing/*.csv", f"s3://{BUCKET}/nothing.csv"):
        with pytest.raises(IngestError, match=rf"no file matches '{path[:20]}.*source\.events"):
            source_files("events", config(path).events, tmp_path, "duckdb")
    with pytest.raises(IngestError, match="no files that end with"):
        source_files("events", config(f"s3://{BUCKET}/items").events, tmp_path, "duckdb")
    wanted = config(f"s3://{BUCKET}/events", endpoint_url="http://127.0.0.1:9").events
    with pytest.raises(IngestError, match=r"cannot list 's3://shop/events': .*storage_options"):
        source_files("events", wanted, tmp_path, "duckdb")
