"""A table as it was read, and where its rows come from."""

from dataclasses import dataclass, field

import ibis.expr.types as ir

from ingestion.reading.files import SourceFile
from ingestion.sources import TableSource

# Columns that a raw table has beside its files' own: the number of the row over all files, from 0;
# why a line could not be split and the line itself, else null; which of the files, from 0.
RAW_POSITION, RAW_MALFORMED, RAW_LINE = "__position", "__malformed", "__line"
RAW_FILE = "__file"
MALFORMED = "malformed line"  # what every reason for it starts with


@dataclass(frozen=True)
class RowsOf:
    """A file's part of a raw table."""

    file: SourceFile
    start: int  # position of its first row
    first_line: int  # of its first row, from 1; rows of parquet are numbered likewise


@dataclass
class RawTable:
    """A table as read: what it is called in the engine and where its rows come from.

    Attributes:
        swallowed: lines that are no rows of their own but inside malformed ones, as after a quote
            that is never closed.
    """

    table: str
    source: TableSource
    name: str
    columns: list[str]
    rows: int = 0
    files: list[RowsOf] = field(default_factory=list)
    swallowed: int = 0

    def place(self, position: int) -> str:
        """ "file 'x.csv', line 12": where a person finds the row."""
        part = next(part for part in reversed(self.files) if part.start <= position)
        unit = "row" if part.file.format == "parquet" else "line"
        return f"file '{part.file.name}', {unit} {position - part.start + part.first_line}"

    def last_rows(self) -> list[int]:
        """Positions of the files' last rows; a file without rows has none."""
        starts = [part.start for part in self.files]
        ends = [*starts[1:], self.rows]
        return [end - 1 for start, end in zip(starts, ends, strict=True) if end > start]


def count_swallowed(rows: ir.Table) -> int:
    """As `RawTable.swallowed`, of a raw table's rows."""
    line = rows[RAW_LINE]
    text = line.strip()
    breaks = text.length() - text.replace("\n", "").length()
    lines = rows.filter(line.notnull()).select(breaks=breaks)
    return int(lines.agg(total=lines["breaks"].sum()).to_pyarrow()["total"][0].as_py() or 0)


def first_line(file: SourceFile, source: TableSource) -> int:
    """The line of a file's first row."""
    return 2 if file.format in ("csv", "tsv") and source.names is None else 1
