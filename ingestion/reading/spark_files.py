"""Source files into raw tables of Spark: the same rows at the same positions as DuckDB has them.

Rows are numbered within a file's partitions, which Spark cuts in the order of the file; how many
there are before each is counted first.
"""

import re
from collections.abc import Callable
from typing import Any

from ingestion.reading.failures import named, no_rows
from ingestion.reading.files import SourceFile
from ingestion.reading.headers import (
    check_columns,
    check_same_columns,
    delimiter,
    quote_character,
    read_header,
)
from ingestion.reading.raw import (
    MALFORMED,
    RAW_FILE,
    RAW_LINE,
    RAW_MALFORMED,
    RAW_POSITION,
    RawTable,
    RowsOf,
    first_line,
)
from ingestion.sources import TableSource

_PARTITION_ROWS = 1 << 33  # of monotonically_increasing_id: the partition's number above this
Stored = Callable[[str, Any], str]


def read_raw(
    session: Any, table: str, source: TableSource, files: list[SourceFile], stored: Stored
) -> RawTable:
    """Make a table's files a view of the session.

    Args:
        stored: writes a frame down and gives the name of a view of it.

    Raises:
        IngestError: a file is empty, undecodable, or lacks a column.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    raw = RawTable(table, source, "", [])
    frames_of = {"jsonl": _json, "parquet": _parquet}.get(files[0].format, _text)
    with named(table, files, (PySparkException, Py4JError), _first_line):
        frames = frames_of(session, raw, files)
        raw.name = stored(f"raw_{table}", _numbered(raw, files, frames))
    if raw.rows == 0:
        raise no_rows(table, files[0].name, raw.columns)
    return raw


def _first_line(error: Exception) -> str:
    """The rest is Java's calls."""
    return (str(error).splitlines() or [""])[0]


def _numbered(raw: RawTable, files: list[SourceFile], frames: list[Any]) -> Any:
    """All files' rows with their positions."""
    from pyspark.sql import functions as fn

    whole: Any = None
    for index, (file, frame) in enumerate(zip(files, frames, strict=True)):
        counts = {
            row["part"]: row["count"]
            for row in frame.groupBy(fn.spark_partition_id().alias("part")).count().collect()
        }
        starts, total = [], raw.rows
        for part in range(max(counts, default=-1) + 1):
            starts.append(total)
            total += counts.get(part, 0)
        number = fn.monotonically_increasing_id()
        before = fn.array(*(fn.lit(start) for start in starts or [0]))
        part = fn.shiftright(number, 33).cast("int")
        numbered = frame.select(
            (fn.element_at(before, part + 1) + number % _PARTITION_ROWS).alias(RAW_POSITION),
            fn.lit(index).alias(RAW_FILE),
            "*",
        )
        raw.files.append(RowsOf(file, raw.rows, first_line(file, raw.source)))
        raw.rows = total
        whole = numbered if whole is None else whole.unionByName(numbered)
    return whole


def _text(session: Any, raw: RawTable, files: list[SourceFile]) -> list[Any]:
    """csv and tsv; a line that Spark cannot split comes with itself in `RAW_LINE`."""
    from pyspark.sql import functions as fn
    from pyspark.sql.types import StringType, StructField, StructType

    source = raw.source
    quote = quote_character(source)
    for file in files:
        columns = read_header(file, source)
        check_columns(raw.table, source, file, columns)
        raw.columns = raw.columns or columns
        check_same_columns(raw.table, (files[0], raw.columns), (file, columns))
    names = [*raw.columns, RAW_LINE]
    read = session.read.schema(StructType([StructField(name, StringType()) for name in names]))
    read = read.options(
        header=source.names is None,
        sep=delimiter(source),
        quote=quote,
        escape=quote or "\x00",
        multiLine=bool(quote),
        encoding={"latin-1": "ISO-8859-1"}.get(source.encoding, source.encoding.upper()),
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=RAW_LINE,
    )
    frames = []
    for file in files:
        frame = read.csv(file.path)
        line = fn.regexp_replace(fn.col(_name(RAW_LINE)), r"^[\r\n]+|[\r\n]+$", "")
        malformed = _malformed(line, len(raw.columns), delimiter(source), quote)
        blank = [
            fn.when(fn.col(_name(name)) == "", None)
            .when(fn.col(RAW_LINE).isNotNull(), None)
            .otherwise(fn.col(_name(name)))
            .alias(name)
            for name in raw.columns
        ]
        frames.append(frame.select(malformed.alias(RAW_MALFORMED), line.alias(RAW_LINE), *blank))
    return frames


def _malformed(line: Any, columns: int, separator: str, quote: str) -> Any:
    """What is wrong with a line, as DuckDB calls it."""
    from pyspark.sql import functions as fn

    bare = line
    if quote:
        mark = re.escape(quote)
        bare = fn.regexp_replace(line, f"{mark}([^{mark}]|{mark}{mark})*{mark}", "")
    found = fn.size(fn.split(bare, re.escape(separator)))
    kind = fn.when(found < columns, "missing columns").when(found > columns, "too many columns")
    kind = kind.otherwise("unquoted value")
    return fn.when(line.isNotNull(), fn.concat(fn.lit(f"{MALFORMED}: "), kind))


def _json(session: Any, raw: RawTable, files: list[SourceFile]) -> list[Any]:
    """Objects, one a line; columns are those that any of the files has, as they first come."""
    from pyspark.sql import functions as fn
    from pyspark.sql.types import NullType, StringType, StructField, StructType

    paths = [file.path for file in files]
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": RAW_LINE}
    inferred = {
        each.name: each for each in session.read.options(**options).json(paths).schema.fields
    }
    raw.columns = [name for name in _first_seen(session, paths) if name in inferred]
    if not raw.columns:
        raise OSError("its lines must each be one JSON object")
    check_columns(raw.table, raw.source, files[0], raw.columns)
    fields = [
        StructField(name, StringType() if inferred[name].dataType == NullType() else kind)
        for name in raw.columns
        for kind in [inferred[name].dataType]
    ]
    schema = StructType([*fields, StructField(RAW_LINE, StringType())])
    reason = fn.when(fn.col(RAW_LINE).isNotNull(), f"{MALFORMED}: not a JSON object")
    frames = []
    for file in files:
        frame = session.read.schema(schema).options(**options).json(file.path)
        columns = [fn.col(_name(name)) for name in raw.columns]
        frames.append(frame.select(reason.alias(RAW_MALFORMED), RAW_LINE, *columns))
    return frames


def _first_seen(session: Any, paths: list[str]) -> list[str]:
    """Keys of the objects, in the order in which they first come."""
    from pyspark.sql import functions as fn

    keys: Any = None
    for index, path in enumerate(paths):
        lines = session.read.text(path).select(
            fn.monotonically_increasing_id().alias("line"), "value"
        )
        of_file = lines.select(
            fn.lit(index).alias("file"),
            "line",
            fn.posexplode(fn.expr("json_object_keys(value)")).alias("place", "key"),
        )
        keys = of_file if keys is None else keys.unionByName(of_file)
    first = keys.groupBy("key").agg(fn.min(fn.struct("file", "line", "place")).alias("first"))
    return [row["key"] for row in first.orderBy("first").collect()]


def _parquet(session: Any, raw: RawTable, files: list[SourceFile]) -> list[Any]:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as fn

    frames = []
    for file in files:
        try:
            frame = session.read.parquet(file.path)
        except PySparkException as error:
            raise OSError(f"it is no parquet file ({str(error).splitlines()[0]})") from error
        check_columns(raw.table, raw.source, file, frame.columns)
        raw.columns = raw.columns or frame.columns
        check_same_columns(raw.table, (files[0], raw.columns), (file, frame.columns))
        nothing = fn.lit(None).cast("string")
        columns = [fn.col(_name(name)) for name in raw.columns]
        frames.append(frame.select(nothing.alias(RAW_MALFORMED), nothing.alias(RAW_LINE), *columns))
    return frames


def _name(column: str) -> str:
    """A column's name where a dot would mean a field of it."""
    return "`" + column.replace("`", "``") + "`"
