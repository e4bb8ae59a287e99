"""What an ingestion asks of the engine that computes its tables."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import ibis.expr.types as ir
import pyarrow as pa

from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.sources import TableSource


class Keep(Protocol):
    """Compute a table once, on disk, and go on from what came out.

    An Ibis expression is a query: used twice, it is computed twice.
    """

    def __call__(self, name: str, rows: ir.Table) -> ir.Table: ...


class Engine(Protocol):
    """DuckDB or Spark behind Ibis. Whatever is not in here is Ibis expressions, for both."""

    name: str
    connection: Any  # the Ibis backend

    def read(self, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
        """Files of a table as rows of the engine, untouched, each with its position.

        Raises:
            IngestError: a file is empty, undecodable, or lacks a column.
        """
        ...

    def keep(self, name: str, rows: ir.Table) -> ir.Table:
        """As `Keep`; a table of that name is replaced."""
        ...

    def write(self, rows: ir.Table, path: Path, target: pa.Schema) -> int:
        """Rows, in their order, to one parquet file of `target`'s columns; the number of rows."""
        ...

    def moment(self, us: ir.Value) -> ir.Value:
        """Microseconds since 1970 (int64) as a time in UTC."""
        ...

    def as_json(self, columns: Iterable[tuple[str, ir.Value]]) -> ir.Value:
        """Named values as one JSON object, nulls included, in their order."""
        ...

    def close(self) -> None:
        """Let go of everything; the work folder may be deleted afterwards."""
        ...
