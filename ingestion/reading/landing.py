"""Every source as files that an engine can open; rows of databases and lakes land as parquet."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from shutil import copyfileobj

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.errors import IngestError
from ingestion.reading.files import SourceFile, files_fingerprint, find_files
from ingestion.reading.lake import lake_fingerprint, lake_name, lake_rows
from ingestion.reading.sql import sql_fingerprint, sql_name, sql_rows
from ingestion.reading.stores import filesystem
from ingestion.reading.table import TableSource
from ingestion.sources import SourceConfig
from recommender.files import atomic_file


def source_files(table: str, source: TableSource, work: Path, engine_name: str) -> list[SourceFile]:
    """The files of a table, in the order of `path`, each pattern's and folder's sorted by name.

    Rows of SQL, Delta and Iceberg are streamed into a parquet file below `work`/landing, which is
    the one file of such a table. Files of web servers are copied there.

    Args:
        engine_name: of `source.engine.name`; Spark calls S3 s3a.

    Raises:
        IngestError: naming what is missing, refused or wrong.
    """
    if source.format in ("sql", "delta", "iceberg"):
        return [_land(table, source, work)]
    files = find_files(table, source)
    files = [_copied(table, source, file, work) if _of_the_web(file) else file for file in files]
    if engine_name != "spark":
        return files
    return [
        replace(file, path=f"s3a{file.path.removeprefix('s3')}")
        if file.path.startswith("s3://")
        else file
        for file in files
    ]


def _of_the_web(file: SourceFile) -> bool:
    """Web servers do not say what engines want to know of a file, as when it was written."""
    return file.path.startswith(("http://", "https://"))


def _copied(table: str, source: TableSource, file: SourceFile, work: Path) -> SourceFile:
    folder = work / "landing" / table / file.fingerprint[:16]
    target = folder / file.path.partition("?")[0].rpartition("/")[2]
    try:
        with (
            filesystem(file.path, source.storage_options).open(file.path, "rb") as stream,
            atomic_file(target) as draft,
            draft.open("wb") as to,
        ):
            copyfileobj(stream, to, 1 << 20)
    except (OSError, ValueError) as error:
        raise IngestError(f"{table}: cannot read '{file.name}': {error}") from error
    return replace(file, path=str(target))


def source_fingerprint(config: SourceConfig) -> str:
    """sha256 over every table's files, table by table, as they are now; see the readers' modules.

    Raises:
        IngestError: a source is missing, or cannot be reached.
    """
    return files_fingerprint(
        {table: _as_they_are(table, source) for table, source in config.tables().items()}
    )


def _as_they_are(table: str, source: TableSource) -> list[SourceFile]:
    if source.format == "sql":
        assert source.sql is not None
        return [SourceFile(sql_name(source.sql), "", "parquet", sql_fingerprint(table, source.sql))]
    if source.format in ("delta", "iceberg"):
        return [SourceFile(lake_name(source), "", "parquet", lake_fingerprint(table, source))]
    return find_files(table, source)


def _land(table: str, source: TableSource, work: Path) -> SourceFile:
    reading: AbstractContextManager[tuple[pa.RecordBatchReader, str]]
    if source.sql is not None:
        name, reading = sql_name(source.sql), sql_rows(table, source.sql)
    else:
        name, reading = lake_name(source), lake_rows(table, source)
    target = work / "landing" / f"{table}.parquet"
    with (
        reading as (batches, content),
        atomic_file(target) as draft,
        pq.ParquetWriter(draft, batches.schema, compression="zstd", compression_level=1) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return SourceFile(name, str(target), "parquet", content)
