"""Rows of Delta and Iceberg tables, a data file at a time, in the order of the files' names.

A Delta table's fingerprint is its id, version and files; an Iceberg table's its id, snapshot and
columns. Neither changes a file or a version that is written, so these stand for the content.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ingestion.errors import IngestError
from ingestion.reading.settings import StorageConfig
from ingestion.reading.stores import filesystem
from ingestion.reading.table import TableSource, is_url
from recommender.files import fingerprint

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Delta's messages have some


def lake_name(source: TableSource) -> str:
    """As messages and rejects show it."""
    place = source.iceberg.table if source.iceberg else str(source.path)
    return place if source.version is None else f"{place}@{source.version}"


def lake_fingerprint(table: str, source: TableSource) -> str:
    """Of the table as it is now, without reading its rows.

    Raises:
        IngestError: as `lake_rows`.
    """
    with _explained(table, source):
        if source.format == "delta":
            return _delta_fingerprint(_delta(table, source))
        return _iceberg_fingerprint(_iceberg(table, source))


@contextmanager
def lake_rows(table: str, source: TableSource) -> Iterator[tuple[pa.RecordBatchReader, str]]:
    """The rows as Arrow batches, and the fingerprint of the version that they are of.

    Raises:
        IngestError: there is no such table or version, or the store refuses.
    """
    with _explained(table, source):
        if source.format == "delta":
            delta = _delta(table, source)
            yield _delta_rows(delta), _delta_fingerprint(delta)
        else:
            scan = _iceberg(table, source)
            yield _iceberg_rows(scan), _iceberg_fingerprint(scan)


@contextmanager
def _explained(table: str, source: TableSource) -> Iterator[None]:
    try:
        yield
    except IngestError:
        raise
    except Exception as error:  # their libraries raise whatever their stores do
        text = " ".join(_COLOURS.sub("", str(error)).split())
        raise IngestError(
            f"{table}: cannot read {source.format} table '{lake_name(source)}': "
            f"{type(error).__name__}: {text}; check source.{table}, its storage_options, and the "
            "keys in the environment"
        ) from error


def _delta(table: str, source: TableSource) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    path, storage = str(source.path), source.storage_options
    options = {}
    if endpoint := storage.endpoint():
        options = {"aws_endpoint": endpoint, "aws_allow_http": "true"}
    if storage.region:
        options["aws_region"] = storage.region
    if storage.anon:
        options["aws_skip_signature"] = "true"
    place = path if is_url(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
    try:
        if not is_url(path) and not os.path.isdir(place):  # noqa: PTH112
            raise TableNotFoundError
        newest = DeltaTable(place, storage_options=options)
    except TableNotFoundError as error:
        raise IngestError(
            f"{table}: '{path}' is no Delta table (a folder with _delta_log); correct "
            f"source.{table}.path"
        ) from error
    if source.version is None:
        return newest
    if source.version > newest.version():
        raise IngestError(
            f"{table}: Delta table '{path}' has no version {source.version}; its newest is "
            f"{newest.version()}: correct source.{table}.version"
        )
    return DeltaTable(place, version=source.version, storage_options=options)


def _delta_rows(delta: Any) -> pa.RecordBatchReader:
    import pyarrow.dataset as ds
    from deltalake.exceptions import DeltaProtocolError

    try:
        files = delta.to_pyarrow_dataset()
    except DeltaProtocolError:  # deletion vectors, renamed columns: its own engine, in any order
        return pa.RecordBatchReader.from_stream(delta.scan())
    fragments = sorted(files.get_fragments(), key=lambda fragment: fragment.path)
    ordered = ds.FileSystemDataset(fragments, files.schema, files.format, files.filesystem)
    return ordered.scanner(fragment_readahead=1).to_reader()


def _delta_fingerprint(delta: Any) -> str:
    return fingerprint([delta.metadata().id, delta.version(), sorted(delta.file_uris())])


def _iceberg(table: str, source: TableSource) -> Any:
    """A scan of the snapshot that is meant: the newest, by today's columns, or an older by its own.

    Raises:
        IngestError: there is no such table or snapshot, or it has none.
    """
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
    from pyiceberg.table import StaticTable

    found: Any
    if source.iceberg is None:
        path = str(source.path)
        place = path if is_url(path) else os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
        found = StaticTable.from_metadata(
            _metadata_file(table, place, source.storage_options), _properties(source)
        )
    else:
        catalog = load_catalog(
            source.iceberg.catalog, **_properties(source), **source.iceberg.properties
        )
        try:
            found = catalog.load_table(source.iceberg.table)
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            raise IngestError(
                f"{table}: catalog '{source.iceberg.catalog}' has no table "
                f"'{source.iceberg.table}'; correct source.{table}.iceberg.table"
            ) from error
    if source.version is None:
        if found.current_snapshot() is None:
            raise IngestError(
                f"{table}: Iceberg table '{lake_name(source)}' has no snapshot yet, so no rows; "
                f"write to it, or correct source.{table}"
            )
        return found.scan()
    if found.snapshot_by_id(source.version) is None:
        known = ", ".join(str(one.snapshot_id) for one in found.snapshots()[-5:]) or "none"
        raise IngestError(
            f"{table}: Iceberg table '{lake_name(source)}' has no such snapshot; the last that "
            f"it has: {known}. Correct source.{table}.version"
        )
    return found.scan(snapshot_id=source.version)


def _iceberg_rows(scan: Any) -> pa.RecordBatchReader:
    from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow

    columns = scan.projection()
    schema = schema_to_pyarrow(columns, include_field_ids=False)
    reading = ArrowScan(scan.table_metadata, scan.io, columns, scan.row_filter)

    def batches() -> Iterator[pa.RecordBatch]:
        # A file at a time: given all, PyIceberg reads them all ahead, into memory.
        for task in sorted(scan.plan_files(), key=lambda task: task.file.file_path):
            for batch in reading.to_record_batches([task]):
                yield from pa.Table.from_batches([batch]).cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _iceberg_fingerprint(scan: Any) -> str:
    columns = [str(column) for column in scan.projection().columns]
    return fingerprint(
        [str(scan.table_metadata.table_uuid), scan.snapshot().snapshot_id, sorted(columns)]
    )


def _metadata_file(table: str, place: str, storage: StorageConfig) -> str:
    """The newest metadata of a table's folder: what version-hint.text says, else by its number."""
    if place.endswith(".metadata.json"):
        return place
    folder = f"{place.rstrip('/')}/metadata"
    url = folder if is_url(folder) else f"file://{folder}"
    files = filesystem(url, storage)
    if files.exists(f"{url}/version-hint.text"):
        hint = files.cat_file(f"{url}/version-hint.text").decode().strip()
        name = hint if hint.endswith(".metadata.json") else f"{hint}.metadata.json"
        return f"{folder}/v{name}" if hint.isnumeric() else f"{folder}/{name}"
    numbered = {
        int(match[1]): name
        for path in files.glob(f"{url}/*.metadata.json")
        if (match := re.match(r"v?(\d+)", name := str(path).rpartition("/")[2]))
    }
    if not numbered:
        raise IngestError(
            f"{table}: '{place}' is no Iceberg table (no metadata/*.metadata.json in it); correct "
            f"source.{table}.path, or give `iceberg` with its catalog and table"
        )
    return f"{folder}/{numbered[max(numbered)]}"


def _properties(source: TableSource) -> dict[str, str]:
    """What PyIceberg's file access is told; keys it finds in the environment."""
    storage = source.storage_options
    endpoint = storage.endpoint()
    regions = (storage.region, os.environ.get("AWS_REGION"), os.environ.get("AWS_DEFAULT_REGION"))
    given = {
        "s3.endpoint": endpoint,
        # Without one it asks Amazon where the bucket is, which an endpoint of one's own is not.
        "s3.region": next(filter(None, regions), "us-east-1" if endpoint else None),
        "s3.anonymous": "true" if storage.anon else None,
    }
    return {name: value for name, value in given.items() if value}
