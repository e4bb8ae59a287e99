"""DuckDB in this process: streams files, goes to disk beyond its memory limit."""

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.engines import functions
from recommender.engines.parquet import ROW_GROUP, write_batches
from recommender.engines.settings import EngineConfig
from recommender.errors import KuberecError


class DuckDBTables:
    """A database file inside `work`; what memory does not hold spills beside it."""

    name = "duckdb"

    def __init__(self, config: EngineConfig, work: Path) -> None:
        settings: dict[str, Any] = {
            "temp_directory": str(work / "work.tmp"),
            "memory_limit": config.memory,
        }
        if config.threads is not None:
            settings["threads"] = config.threads
        self.connection = ibis.duckdb.connect(work / "work.duckdb", **settings)
        self._run("SET TimeZone = 'UTC'")

    def parquet(self, path: Path) -> ir.Table:
        # Whatever is in its name: DuckDB would take "e[1].parquet" for "e1.parquet".
        return self.connection.read_parquet(glob.escape(str(path)))

    def keep(self, name: str, rows: ir.Table) -> ir.Table:
        # Ibis's create_table first makes an empty table; and its way to replace one is no SQL of
        # DuckDB 2.
        with self._named(name):
            self._run(f'CREATE OR REPLACE TABLE "{name}" AS {self._sql(rows)}')
        return self.connection.table(name)

    def batches(self, rows: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        # As Ibis's to_pyarrow_batches, which in Ibis 12 calls a method that DuckDB 2 has renamed.
        with self._named("result"):
            yield from self.connection.con.sql(self._sql(rows)).to_arrow_reader(size)

    def write(self, rows: ir.Table, path: Path, target: pa.Schema) -> int:
        with self._named(path.stem):
            result = self.connection.con.sql(self._sql(rows))
            return write_batches(result.to_arrow_reader(ROW_GROUP), target, path)

    def moment(self, us: ir.Value) -> ir.Value:
        return functions.make_timestamptz(us)

    def micros(self, moment: ir.Value) -> ir.Value:
        return functions.epoch_us(moment)

    def close(self) -> None:
        self.connection.disconnect()

    def _sql(self, rows: ir.Table) -> str:
        self.connection._run_pre_execute_hooks(rows)  # functions and tables of Python's
        return str(self.connection.compile(rows))

    def _run(self, statement: str) -> None:
        # To the last row: DuckDB refuses the next statement while rows are left.
        self.connection.raw_sql(statement).fetchall()

    @contextmanager
    def _named(self, table: str) -> Iterator[None]:
        """What DuckDB runs out of, in words."""
        import duckdb

        try:
            yield
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            raise KuberecError(
                f"DuckDB has no room for the table '{table}': {str(error).splitlines()[0]}; raise "
                "features.engine.memory, lower features.engine.threads, or make room on the disk "
                "of the run's folder"
            ) from error
