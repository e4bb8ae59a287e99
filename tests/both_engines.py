"""Both engines on one source, and what came of it side by side."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender import schema

ENGINES = ("duckdb", "spark")
# Spark reads even these files in several parts, as it does large ones.
SMALL_PARTS = {"spark_conf": {"spark.sql.files.maxPartitionBytes": "1024"}}


def snapshots(content: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """snapshot.json of each engine; the tables lie in folders named after the engines."""
    found = {}
    for engine in ENGINES:
        config = content | {"engine": {"name": engine, "spark_master": "local[2]"} | SMALL_PARTS}
        found[engine] = ingest(SourceConfig.model_validate(config), folder / engine)
    return found


def rows(folder: Path, engine: str, table: str) -> list[dict[str, Any]]:
    return pq.read_table(schema.table_path(folder / engine, table)).to_pylist()


def assert_same(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Ingest with both; the summary of the one, which is that of the other."""
    found = snapshots(content, folder)
    for table in (*schema.TABLES, "rejects"):
        assert rows(folder, "spark", table) == rows(folder, "duckdb", table), table
    for key in ("read", "kept", "rejected", "filtered", "changed", "fingerprint"):
        assert found["spark"][key] == found["duckdb"][key], key
    assert [found[engine]["engine"] for engine in ENGINES] == list(ENGINES)
    return found["spark"]
