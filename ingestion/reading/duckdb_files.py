"""Source files into raw tables of a DuckDB database: every row as it is, with its position.

A raw table has the file's columns plus `__position` (row number over all files, from 0) and
`__malformed` (why the line could not be split into columns, else null). Files are streamed.
"""

from pathlib import Path
from typing import Any

from ingestion.errors import IngestError
from ingestion.reading.headers import (
    DELIMITERS,
    check_columns,
    delimiter,
    listed,
    quote_character,
    read_header,
)
from ingestion.reading.raw import RAW_MALFORMED, RAW_POSITION, RawTable
from ingestion.sources import TableSource, locate


def run_sql(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Every row of the result: DuckDB refuses the next statement while rows are left."""
    return list(connection.raw_sql(statement).fetchall())


def read_raw(connection: Any, table: str, source: TableSource) -> RawTable:
    """Load a table's files into `raw_<table>` of an Ibis DuckDB connection.

    Raises:
        IngestError: a file is missing, empty, undecodable, or lacks a column.
    """
    raw: RawTable | None = None
    for path in locate(table, source):
        try:
            columns, query = _scan(connection, path, source)
        except (OSError, UnicodeError) as error:
            raise IngestError(f"{table}: cannot read file '{path}': {error}") from error
        check_columns(table, source, path, columns)
        if raw is None:
            raw = RawTable(table, source, f"raw_{table}", columns)
        elif columns != raw.columns:
            raise IngestError(
                f"{table}: file '{path}' has columns {listed(columns)}, but "
                f"'{raw.files[0][0]}' has {listed(raw.columns)}; the files of one table need the "
                f"same columns in the same order: narrow source.{table}.path"
            )
        _load(connection, raw, path, query)
    assert raw is not None, "locate() finds at least one file"
    if raw.rows == 0:
        raise IngestError(
            f"{table}: file '{raw.files[0][0]}' has columns {listed(raw.columns)} but no rows; "
            f"point source.{table}.path at a file with data"
        )
    return raw


def _load(connection: Any, raw: RawTable, path: Path, query: str) -> None:
    import duckdb

    first = not raw.files
    start = raw.rows
    raw.files.append((path, start))
    target = f'CREATE TABLE "{raw.name}" AS' if first else f'INSERT INTO "{raw.name}"'
    # DuckDB keeps a file's order (preserve_insertion_order), so this numbers its rows.
    select = (
        f'SELECT row_number() OVER () - 1 + {start} AS "{RAW_POSITION}", '
        f'CAST(NULL AS VARCHAR) AS "{RAW_MALFORMED}", * FROM {query}'
    )
    try:
        run_sql(connection, "DROP TABLE IF EXISTS malformed_lines")
        run_sql(connection, "DROP TABLE IF EXISTS malformed_scans")
        run_sql(connection, f"{target} {select}")
    except duckdb.Error as error:
        raise IngestError(
            f"{raw.table}: cannot read file '{path}' as {raw.source.format}: "
            f"{str(error).splitlines()[0]}; check source.{raw.table}.format and the file"
        ) from error
    rows = run_sql(connection, f'SELECT count(*) FROM "{raw.name}"')[0][0]
    raw.rows = rows
    if raw.source.format in DELIMITERS:
        raw.rows += _add_malformed(connection, raw, path, start, rows - start)
    elif raw.source.format == "jsonl":
        nothing = " AND ".join(f"{quoted(name)} IS NULL" for name in raw.columns)
        run_sql(
            connection,
            f'UPDATE "{raw.name}" SET "{RAW_MALFORMED}" = \'malformed line: not a JSON object\' '
            f'WHERE "{RAW_POSITION}" >= {start} AND {nothing}',
        )


def _add_malformed(connection: Any, raw: RawTable, path: Path, start: int, good: int) -> int:
    """Put the lines that DuckDB could not split among the rows, at their positions; their number.

    With line breaks inside quotes a position can be off by those breaks; the order stays.
    """
    run_sql(
        connection,
        "CREATE OR REPLACE TEMP TABLE gaps AS "
        "SELECT line, any_value(csv_line) AS text, "
        "arg_min(lower(CAST(error_type AS VARCHAR)), column_idx) AS error "
        "FROM malformed_lines GROUP BY line",
    )
    bad, encoding = run_sql(
        connection, "SELECT count(*), min(line) FILTER (error = 'invalid encoding') FROM gaps"
    )[0]
    if encoding is not None:
        raise IngestError(
            f"{raw.table}: file '{path}', line {encoding} is not {raw.source.encoding}; set "
            f"source.{raw.table}.encoding (latin-1 reads most Western files), or convert it"
        )
    if bad == 0:
        return 0
    total = good + bad
    position = f"least(line - 2, {total - 1})"
    run_sql(
        connection,
        f'UPDATE "{raw.name}" AS r SET "{RAW_POSITION}" = free.position + {start} FROM ('
        "  SELECT position, row_number() OVER (ORDER BY position) - 1 AS rank"
        f"  FROM range({total}) t(position)"
        f"  WHERE position NOT IN (SELECT {position} FROM gaps)"
        f') AS free WHERE r."{RAW_POSITION}" = free.rank + {start}',
    )
    run_sql(
        connection,
        f'INSERT INTO "{raw.name}" ("{RAW_POSITION}", "{RAW_MALFORMED}", {quoted(raw.columns[0])}) '
        f"SELECT {position} + {start}, 'malformed line: ' || error, text FROM gaps",
    )
    return int(bad)


def _scan(connection: Any, path: Path, source: TableSource) -> tuple[list[str], str]:
    """(column names, the table function that reads the file)."""
    import duckdb

    location = _literal(str(path))
    if source.format in DELIMITERS:
        columns = read_header(path, source)
        types = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in columns)
        return columns, (
            f"read_csv({location}, auto_detect=false, header=true, columns={{{types}}}, "
            f"delim={_literal(delimiter(source))}, quote={_literal(quote_character(source))}, "
            f"escape={_literal(quote_character(source))}, encoding={_literal(source.encoding)}, "
            "store_rejects=true, rejects_table='malformed_lines', rejects_scan='malformed_scans')"
        )
    if source.format == "jsonl":
        query = (
            f"read_json({location}, format='newline_delimited', ignore_errors=true, sample_size=-1)"
        )
    else:
        query = f"read_parquet({location})"
    try:
        description = run_sql(connection, f"DESCRIBE SELECT * FROM {query}")
    except duckdb.Error as error:
        raise OSError(f"it is no {source.format} file ({str(error).splitlines()[0]})") from error
    columns = [row[0] for row in description]
    if source.format == "jsonl" and columns == ["json"]:
        raise OSError("its lines must each be one JSON object")
    # A field of mixed types comes as JSON; as text, a string has no quotes around it.
    mixed = [quoted(row[0]) for row in description if row[1] == "JSON"]
    if mixed:
        replaced = ", ".join(f"{name} ->> '$' AS {name}" for name in mixed)
        query = f"(SELECT * REPLACE ({replaced}) FROM {query})"
    return columns, query


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
