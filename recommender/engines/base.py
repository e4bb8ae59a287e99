"""What computes tables: DuckDB or Spark behind Ibis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import ibis.expr.types as ir
import pyarrow as pa


class Keep(Protocol):
    """Compute a table once, on disk, and go on from what came out.

    An Ibis expression is a query: used twice, it is computed twice.
    """

    def __call__(self, name: str, rows: ir.Table) -> ir.Table: ...


class TableEngine(Protocol):
    """Whatever is not in here is Ibis expressions, for every engine."""

    name: str
    connection: Any  # the Ibis backend

    def parquet(self, path: Path) -> ir.Table:
        """The rows of one parquet file."""
        ...

    def keep(self, name: str, rows: ir.Table) -> ir.Table:
        """As `Keep`; a table of that name is replaced."""
        ...

    def batches(self, rows: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        """Rows, in their order, at most `size` at a time."""
        ...

    def write(self, rows: ir.Table, path: Path, target: pa.Schema) -> int:
        """Rows, in their order, to one parquet file of `target`'s columns; the number of rows."""
        ...

    def moment(self, us: ir.Value) -> ir.Value:
        """Microseconds since 1970 (int64) as a time in UTC."""
        ...

    def micros(self, moment: ir.Value) -> ir.Value:
        """A time in UTC as microseconds since 1970 (int64)."""
        ...

    def close(self) -> None:
        """Let go of everything; the work folder may be deleted afterwards."""
        ...
