"""Lines of text that DuckDB could not read as rows: put among the rows, at their positions.

Of `<raw>_rows` DuckDB knows the order (`rowid`), of a malformed line its number in the file. The
view `<raw>` has both: a row's position is its rowid and the number of malformed lines before it.
"""

from codecs import BOM_UTF8
from typing import Any

from ingestion.errors import IngestError
from ingestion.reading.files import compression, open_file
from ingestion.reading.headers import quote_character
from ingestion.reading.raw import (
    MALFORMED,
    RAW_FILE,
    RAW_LINE,
    RAW_MALFORMED,
    RAW_POSITION,
    RawTable,
    RowsOf,
)
from ingestion.reading.sql_text import file_literal, literal, quoted, run_sql, stored

_BLOCK = 256  # rows that share one look at the malformed lines before them
_NO_DELIMITER = "\x01\x02\x03\x04"  # between columns of a file that is read as one of lines


def bad_tables(connection: Any, raw: RawTable) -> None:
    """Empty `<raw>_bad`: lines that are no rows, by position."""
    run_sql(
        connection,
        f"CREATE OR REPLACE TABLE {raw.name}_bad "
        "(position BIGINT, file INTEGER, malformed VARCHAR, line VARCHAR)",
    )


def add_malformed(connection: Any, raw: RawTable, part: RowsOf, index: int, good: int) -> int:
    """Put the lines that read_csv could not split into `<raw>_bad`; their number.

    Raises:
        IngestError: the file is not of the configured encoding.
    """
    run_sql(
        connection,
        "CREATE OR REPLACE TEMP TABLE gaps AS SELECT line, row_number() OVER (ORDER BY line) - 1 "
        "AS rank, ltrim(any_value(csv_line), chr(10) || chr(13)) AS text, "
        "arg_min(lower(CAST(error_type AS VARCHAR)), column_idx) AS error "
        "FROM malformed_lines GROUP BY line",
    )
    bad, encoding = run_sql(
        connection, "SELECT count(*), min(line) FILTER (error = 'invalid encoding') FROM gaps"
    )[0]
    if encoding is not None:
        raise IngestError(
            f"{raw.table}: file '{part.file.name}', line {encoding} is not {raw.source.encoding}; "
            f"set source.{raw.table}.encoding (latin-1 reads most Western files), or convert it"
        )
    if bad:
        record = _records(connection, raw, part, good + bad)
        run_sql(
            connection,
            f"INSERT INTO {raw.name}_bad SELECT {part.start} + {record}, {index}, "
            f"'{MALFORMED}: ' || error, text FROM gaps",
        )
    return int(bad)


def _records(connection: Any, raw: RawTable, part: RowsOf, total: int) -> str:
    """SQL of a gap's number among the file's records, from 0."""
    first = part.first_line
    # Positions stay within the file and apart, where lines cannot be told from records.
    near = f"least(line - {first}, {total} - (SELECT count(*) FROM gaps) + rank)"
    lines = _lines(raw, part)
    if run_sql(connection, f"SELECT count(*) FROM {lines}")[0][0] == total + first - 1:
        return near
    # DuckDB counts blank lines, which are no records, but no line breaks inside quotes.
    quote = quote_character(raw.source)
    quotes = f"coalesce(len(line) - len(replace(line, {literal(quote)}, '')), 0)"
    inside = f"(sum({quotes}) OVER (ORDER BY n) - {quotes}) % 2 = 1" if quote else "false"
    blank = "line IS NULL OR line = ''" if len(raw.columns) > 1 else "false"
    run_sql(
        connection,
        "CREATE OR REPLACE TEMP TABLE records AS "
        f"SELECT row_number() OVER w + {first - 1} AS line, "
        "count(*) FILTER (NOT blank) OVER w - 1 AS record, blank FROM ("
        f"  SELECT n, {inside} AS inside, {blank} AS blank"
        f"  FROM (SELECT row_number() OVER () AS n, line FROM {lines}) WHERE n >= {first}"
        ") WHERE NOT inside WINDOW w AS (ORDER BY n)",
    )
    found, lost = run_sql(
        connection,
        "SELECT (SELECT max(record) + 1 FROM records), (SELECT count(*) FROM gaps ANTI JOIN "
        "(SELECT * FROM records WHERE NOT blank) USING (line))",
    )[0]
    if found != total or lost:
        return near
    return "(SELECT record FROM records WHERE records.line = gaps.line)"


def add_bad_objects(connection: Any, raw: RawTable, part: RowsOf, index: int, rows: int) -> None:
    """Put the text of lines that are no JSON objects into `<raw>_bad`; they are rows already."""
    nothing = " AND ".join(f"{quoted(stored(name))} IS NULL" for name in raw.columns)
    empty = f"SELECT rowid FROM {raw.name}_rows WHERE {RAW_FILE} = {index} AND {nothing}"
    count, first = run_sql(connection, f"SELECT count(*), min(rowid) FROM ({empty})")[0]
    if not count:
        return
    if first == part.start:
        _check_mark(raw, part)
    lines = f"(SELECT line FROM {_lines(raw, part)} WHERE trim(line, ' \t\r') <> '')"
    known = run_sql(connection, f"SELECT count(*) FROM {lines}")[0][0] == rows
    text = (
        f"(SELECT row_number() OVER () - 1 + {part.start} AS rowid, line FROM {lines})"
        if known
        else f"(SELECT rowid, CAST(NULL AS VARCHAR) AS line FROM ({empty}))"
    )
    run_sql(
        connection,
        f"INSERT INTO {raw.name}_bad SELECT rowid, {index}, '{MALFORMED}: not a JSON object', line "
        f"FROM {text} WHERE rowid IN ({empty}) "
        "AND CASE WHEN json_valid(line) THEN json_type(line) <> 'OBJECT' ELSE true END",
    )


def _check_mark(raw: RawTable, part: RowsOf) -> None:
    """DuckDB takes the first line of a file with a byte order mark for no object."""
    with open_file(part.file, raw.source) as stream:
        if stream.read(len(BOM_UTF8)) == BOM_UTF8:
            raise IngestError(
                f"{raw.table}: file '{part.file.name}' begins with a byte order mark, which JSON "
                "must not have, and its first row would be lost; remove the file's first three "
                "bytes, as `sed -i '1s/^\\xEF\\xBB\\xBF//'` does"
            )


def _lines(raw: RawTable, part: RowsOf) -> str:
    """SQL of a file as a table of its lines; a blank one is null."""
    return (
        f"read_csv({file_literal(part.file.path)}, columns={{'line': 'VARCHAR'}}, header=false, "
        f"auto_detect=false, hive_partitioning=false, delim={literal(_NO_DELIMITER)}, quote='', "
        f"escape='', compression={literal(compression(part.file.path, raw.source))}, "
        f"encoding={literal(raw.source.encoding)})"
    )


def shifted(connection: Any, raw: RawTable) -> None:
    """The view `<raw>` over `<raw>_rows` and `<raw>_bad`."""
    names = ", ".join(f"r.{quoted(stored(name))} AS {quoted(name)}" for name in raw.columns)
    bad, rows = f"{raw.name}_bad", f"{raw.name}_rows"
    nothing = "CAST(NULL AS VARCHAR)"
    start = f"CREATE OR REPLACE VIEW {raw.name} AS SELECT "
    if not run_sql(connection, f"SELECT count(*) FROM {bad}")[0][0]:
        run_sql(
            connection,
            f"{start} rowid AS {RAW_POSITION}, {nothing} AS {RAW_MALFORMED}, "
            f"{nothing} AS {RAW_LINE}, {RAW_FILE}, {names} FROM {rows} r",
        )
        return
    if raw.files[0].file.format == "jsonl":
        run_sql(
            connection,
            f"{start} r.rowid AS {RAW_POSITION}, b.malformed AS {RAW_MALFORMED}, "
            f"b.line AS {RAW_LINE}, r.{RAW_FILE}, {names} "
            f"FROM {rows} r LEFT JOIN {bad} b ON r.rowid = b.position",
        )
        return
    # The j-th bad line, at position p, has p - j rows before it: rows from that rowid on move by
    # one more. A row looks up how many have come before its block, and compares within it.
    run_sql(
        connection,
        f"CREATE OR REPLACE TABLE {raw.name}_shifts AS SELECT block, "
        "coalesce(sum(len(inside)) OVER (ORDER BY block ROWS BETWEEN UNBOUNDED PRECEDING "
        "AND 1 PRECEDING), 0)::BIGINT AS before, inside FROM ("
        f"  SELECT b.block, coalesce(i.inside, []) AS inside FROM"
        f"  (SELECT unnest(range((SELECT count(*) FROM {rows}) // {_BLOCK} + 1)) AS block) b"
        "  LEFT JOIN ("
        f"    SELECT moved // {_BLOCK} AS block, list(moved) AS inside FROM ("
        f"      SELECT position - row_number() OVER (ORDER BY position) + 1 AS moved FROM {bad})"
        "    GROUP BY ALL) i ON b.block = i.block)",
    )
    empty = ", ".join(f"NULL AS {quoted(name)}" for name in raw.columns)
    run_sql(
        connection,
        f"{start} r.rowid + s.before + "
        "CASE WHEN len(s.inside) = 0 THEN 0 "
        f"ELSE len(list_filter(s.inside, lambda moved: moved <= r.rowid)) END AS {RAW_POSITION}, "
        f"{nothing} AS {RAW_MALFORMED}, {nothing} AS {RAW_LINE}, r.{RAW_FILE}, {names} "
        f"FROM {rows} r JOIN {raw.name}_shifts s ON r.rowid // {_BLOCK} = s.block "
        f"UNION ALL SELECT position, malformed, line, file, {empty} FROM {bad}",
    )
