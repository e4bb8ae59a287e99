"""Source files into raw tables of a DuckDB database: every row as it is, with its position.

A raw table has the files' columns and those of `ingestion.reading.raw`. Text is loaded, in the
order of its lines, so that DuckDB's `rowid` is the number of a row; parquet is read where it lies.
"""

from typing import Any

from ingestion.errors import IngestError
from ingestion.reading.duckdb_json import json_columns
from ingestion.reading.duckdb_lines import add_bad_objects, add_malformed, bad_tables, shifted
from ingestion.reading.failures import called, named, no_rows
from ingestion.reading.files import SourceFile, compression
from ingestion.reading.headers import (
    check_columns,
    check_same_columns,
    delimiter,
    quote_character,
    read_header,
)
from ingestion.reading.raw import (
    RAW_FILE,
    RAW_LINE,
    RAW_MALFORMED,
    RAW_POSITION,
    RawTable,
    RowsOf,
    first_line,
)
from ingestion.reading.sql_text import (
    file_literal,
    literal,
    out_of_room,
    quoted,
    run_sql,
    said,
    stored,
)
from ingestion.reading.stores import filesystem
from ingestion.sources import TableSource
from recommender.schema import ITEM_ID, USER_ID

_OF_PARQUET = {"file_row_number", "file_index"}


def read_raw(connection: Any, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
    """Make a table's files `raw_<table>` of an Ibis DuckDB connection.

    Raises:
        IngestError: a file is empty, undecodable, or lacks a column.
    """
    import duckdb

    for file in files:
        protocol = file.path.partition("://")[0]
        if file.remote and not connection.con.filesystem_is_registered(protocol):
            connection.register_filesystem(filesystem(file.path, source.storage_options))
    raw = RawTable(table, source, f"raw_{table}", [])
    load = {"jsonl": _load_json, "parquet": _load_parquet}.get(files[0].format, _load_text)
    with named(table, files, (duckdb.Error,), said):
        try:
            load(connection, raw, files)
        except duckdb.OutOfMemoryException as error:
            raise out_of_room(f"{table}, {called(files)}", error) from error
    if raw.rows == 0:
        raise no_rows(table, files[0].name, raw.columns)
    return raw


def _load_text(connection: Any, raw: RawTable, files: list[SourceFile]) -> None:
    """Lines of csv and tsv; those that cannot be split are put among them afterwards."""
    source = raw.source
    for file in files:
        columns = read_header(file, source)
        check_columns(raw.table, source, file, columns)
        raw.columns = raw.columns or columns
        check_same_columns(raw.table, (files[0], raw.columns), (file, columns))
    bad_tables(connection, raw)
    for index, file in enumerate(files):
        types = ", ".join(f"{literal(stored(name))}: 'VARCHAR'" for name in raw.columns)
        query = (
            f"read_csv({file_literal(file.path)}, auto_detect=false, hive_partitioning=false, "
            f"header={str(source.names is None).lower()}, columns={{{types}}}, "
            f"delim={literal(delimiter(source))}, quote={literal(quote_character(source))}, "
            f"escape={literal(quote_character(source))}, encoding={literal(source.encoding)}, "
            f"compression={literal(compression(file.path, source))}, "
            "store_rejects=true, rejects_table='malformed_lines', rejects_scan='malformed_scans')"
        )
        run_sql(connection, "DROP TABLE IF EXISTS malformed_lines")
        run_sql(connection, "DROP TABLE IF EXISTS malformed_scans")
        part, good = _append(connection, raw, file, index, query)
        raw.rows += good + add_malformed(connection, raw, part, index, good)
    shifted(connection, raw)


def _load_json(connection: Any, raw: RawTable, files: list[SourceFile]) -> None:
    """Objects, one a line; columns are those that any of the files has."""
    source = raw.source
    fixed = (
        "format='newline_delimited', ignore_errors=true, hive_partitioning=false, "
        f"compression={literal(_json_compression(files, source))}"
    )
    paths = ", ".join(file_literal(file.path) for file in files)
    ids = [source.columns[ours] for ours in (USER_ID, ITEM_ID) if ours in source.columns]
    kinds = json_columns(connection, paths, fixed, ids)
    raw.columns = list(kinds)
    check_columns(raw.table, source, files[0], raw.columns)
    types = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in kinds.items())
    # A field of mixed types comes as JSON; as text, a string has no quotes around it.
    columns = ", ".join(
        (f"{quoted(name)} ->> '$'" if kind == "JSON" else quoted(name))
        + f" AS {quoted(stored(name))}"
        for name, kind in kinds.items()
    )
    bad_tables(connection, raw)
    for index, file in enumerate(files):
        rows_of = f"read_json({file_literal(file.path)}, {fixed}, columns={{{types}}})"
        query = f"(SELECT {columns} FROM {rows_of})"
        part, rows = _append(connection, raw, file, index, query)
        raw.rows += rows
        add_bad_objects(connection, raw, part, index, rows)
    shifted(connection, raw)


def _append(
    connection: Any, raw: RawTable, file: SourceFile, index: int, query: str
) -> tuple[RowsOf, int]:
    """Load what `query` reads of a file; where its rows start, how many there are."""
    part = RowsOf(file, raw.rows, first_line(file, raw.source))
    before = 0 if index == 0 else _count(connection, f"{raw.name}_rows")
    target = (
        f"CREATE OR REPLACE TABLE {raw.name}_rows AS"
        if index == 0
        else (f"INSERT INTO {raw.name}_rows")
    )
    run_sql(connection, f"{target} SELECT *, CAST({index} AS INTEGER) AS {RAW_FILE} FROM {query}")
    raw.files.append(part)
    return part, _count(connection, f"{raw.name}_rows") - before


def _load_parquet(connection: Any, raw: RawTable, files: list[SourceFile]) -> None:
    """A view: positions are the files' own row numbers, one file after the other."""
    kinds: set[tuple[str, ...]] = set()
    for file in files:
        query = f"read_parquet({file_literal(file.path)}, hive_partitioning=false)"
        try:
            found = run_sql(connection, f"DESCRIBE SELECT * FROM {query}")
            rows = _count(connection, query)
        except Exception as error:
            raise OSError(f"it is no parquet file ({str(error).splitlines()[0]})") from error
        columns = [row[0] for row in found]
        kinds.add(tuple(row[1] for row in found))
        _check_free(raw, file, columns)
        check_columns(raw.table, raw.source, file, columns)
        raw.columns = raw.columns or columns
        check_same_columns(raw.table, (files[0], raw.columns), (file, columns))
        raw.files.append(RowsOf(file, raw.rows, 1))
        raw.rows += rows
    paths = ", ".join(file_literal(file.path) for file in files)
    starts = ", ".join(str(part.start) for part in raw.files)
    # By default the first file's types are everyone's: 4.5 would be 4 where it has whole numbers.
    combined = f"hive_partitioning=false, union_by_name={str(len(kinds) > 1).lower()}"
    found = run_sql(connection, f"DESCRIBE SELECT * FROM read_parquet([{paths}], {combined})")
    names = ", ".join(_in_microseconds(name, kind) for name, kind, *_ in found)
    run_sql(
        connection,
        f"CREATE OR REPLACE VIEW {raw.name} AS SELECT "
        f"file_row_number + ([{starts}])[CAST(file_index AS BIGINT) + 1] AS {RAW_POSITION}, "
        f"CAST(NULL AS VARCHAR) AS {RAW_MALFORMED}, CAST(NULL AS VARCHAR) AS {RAW_LINE}, "
        f"CAST(file_index AS INTEGER) AS {RAW_FILE}, {names} "
        f"FROM read_parquet([{paths}], file_row_number=true, {combined})",
    )


def _check_free(raw: RawTable, file: SourceFile, columns: list[str]) -> None:
    for name in columns:
        if name.casefold() in _OF_PARQUET:
            raise IngestError(
                f"{raw.table}: file '{file.name}' has a column '{name}', which is what DuckDB "
                "calls a row's place in a parquet file; rename it, or leave it out"
            )


def _in_microseconds(name: str, kind: str) -> str:
    """A column as it is, but for times with a zone in nanoseconds, of which Ibis knows nothing."""
    plain = kind.replace("TIMESTAMPTZ_NS", "TIMESTAMPTZ")
    if plain == kind:
        return quoted(name)
    return f"CAST({quoted(name)} AS {plain}) AS {quoted(name)}"


def _count(connection: Any, relation: str) -> int:
    return int(run_sql(connection, f"SELECT count(*) FROM {relation}")[0][0])


def _json_compression(files: list[SourceFile], source: TableSource) -> str:
    kinds = {compression(file.path, source) for file in files}
    return kinds.pop() if len(kinds) == 1 else "auto"
