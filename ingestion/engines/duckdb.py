"""DuckDB in this process: streams files, goes to disk beyond its memory limit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ingestion.engines import functions
from ingestion.engines.parquet import ROW_GROUP, write_batches
from ingestion.engines.settings import EngineConfig
from ingestion.errors import IngestError
from ingestion.reading.duckdb_files import read_raw
from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.reading.sql_text import out_of_room, quoted, run_sql, said
from ingestion.sources import TableSource


class DuckDBEngine:
    """A database file inside `work`; what memory does not hold spills beside it."""

    name = "duckdb"

    def __init__(self, config: EngineConfig, work: Path) -> None:
        self._database = work / "work.duckdb"
        settings: dict[str, Any] = {
            "temp_directory": str(work / "work.tmp"),
            "memory_limit": config.memory,
        }
        if config.threads is not None:
            settings["threads"] = config.threads
        self.connection = ibis.duckdb.connect(self._database, **settings)
        run_sql(self.connection, "SET TimeZone = 'UTC'")

    def read(self, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
        return read_raw(self.connection, table, source, files)

    def keep(self, name: str, rows: ir.Table) -> ir.Table:
        # Ibis's create_table first makes an empty table; and its way to replace one is no SQL of
        # DuckDB 2.
        with _named(name):
            run_sql(self.connection, f"CREATE OR REPLACE TABLE {quoted(name)} AS {self._sql(rows)}")
        return self.connection.table(name)

    def write(self, rows: ir.Table, path: Path, target: pa.Schema) -> int:
        # As Ibis's to_pyarrow_batches, which in Ibis 12 calls a method that DuckDB 2 has renamed.
        with _named(path.stem):
            result = self.connection.con.sql(self._sql(rows))
            return write_batches(result.to_arrow_reader(ROW_GROUP), target, path)

    def _sql(self, rows: ir.Table) -> str:
        self.connection._run_pre_execute_hooks(rows)  # functions and tables of Python's
        return str(self.connection.compile(rows))

    def close(self) -> None:
        self.connection.disconnect()

    def moment(self, us: ir.Value) -> ir.Value:
        return functions.make_timestamptz(us)

    def as_json(self, columns: Iterable[tuple[str, ir.Value]]) -> ir.Value:
        return functions.to_json(ibis.struct(dict(columns))).cast("string")


@contextmanager
def _named(table: str) -> Iterator[None]:
    """What DuckDB runs out of, or cannot read, in words."""
    import duckdb

    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise out_of_room(f"the table '{table}'", error) from error
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        # Parquet is read where it lies, so that a value which is none shows as late as here.
        raise IngestError(
            f"cannot compute the table '{table}': {said(error)}; put that file or column right"
        ) from error
