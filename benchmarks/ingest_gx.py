"""The same Great Expectations suites on a snapshot, by its pandas engine and by ours on Ibis."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender import schema


def on_pandas(snapshot: Path, memory: str) -> dict[str, Any]:
    """As one would: every table as a data frame."""
    import pandas as pd
    from great_expectations import get_context

    frames = {table: pd.read_parquet(schema.table_path(snapshot, table)) for table in schema.TABLES}
    timestamp = frames["events"][schema.TIMESTAMP]
    frames["events"][schema.TIMESTAMP] = timestamp.dt.tz_localize(None)  # GX knows no zones
    source = get_context(mode="ephemeral").data_sources.add_pandas("snapshot")
    verdicts = {}
    for table, expectations in core_expectations(snapshot, memory).items():
        asset = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
        batch = asset.get_batch({"dataframe": frames[table]})
        verdicts |= _verdicts(table, batch, expectations)
    return {"verdicts": verdicts}


def on_ibis(snapshot: Path, memory: str) -> dict[str, Any]:
    """On the tables' files, by DuckDB."""
    import ibis
    from great_expectations import get_context

    from ingestion.validation.gx_ibis.datasource import IbisDatasource

    connection = ibis.duckdb.connect(memory_limit=memory, temp_directory=str(snapshot / "spill"))
    with tempfile.TemporaryDirectory() as project:
        context = get_context(mode="file", project_root_dir=project)
        source = context.data_sources.add_ibis("snapshot")
        assert isinstance(source, IbisDatasource)
        verdicts = {}
        for table, expectations in core_expectations(snapshot, memory).items():
            rows = connection.read_parquet(schema.table_path(snapshot, table))
            batch = source.asset(table, rows).add_batch_definition(table).get_batch()
            verdicts |= _verdicts(table, batch, expectations)
    return {"verdicts": verdicts}


def core_expectations(snapshot: Path, memory: str) -> dict[str, list[Any]]:
    """Of the suites, what GX has of its own, so that pandas can do it too."""
    import ibis

    from ingestion.validation.settings import ValidationConfig
    from ingestion.validation.suites import suites

    connection = ibis.duckdb.connect(memory_limit=memory)
    tables = {
        table: connection.read_parquet(schema.table_path(snapshot, table))
        for table in schema.TABLES
    }
    named = suites(ValidationConfig(), datetime.now(UTC), tables)
    return {
        table: [
            check.expectation
            for check in named[table]
            if type(check.expectation).__module__.startswith("great_expectations.")
        ]
        for table in schema.TABLES
    }


def _verdicts(table: str, batch: Any, expectations: list[Any]) -> dict[str, bool]:
    from great_expectations import ExpectationSuite

    suite = ExpectationSuite(name=table, expectations=expectations)
    result = batch.validate(suite, result_format="BASIC")
    return {
        f"{table} {number} {each.expectation_config.type}": bool(each.success)
        for number, each in enumerate(result.results)
    }
