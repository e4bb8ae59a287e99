"""Spark, of this machine or of a cluster: the same expressions, for sources larger than a machine.

What is computed once lies as parquet in the work folder, which a cluster's workers must share.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.engines.spark_session import start
from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.reading.spark_files import read_raw
from ingestion.sources import TableSource
from recommender.engines import functions
from recommender.engines.parquet import ROW_GROUP, write_batches
from recommender.engines.settings import EngineConfig


class SparkEngine:
    """A session of its own is stopped at the end; what it put on disk is in `work`."""

    name = "spark"

    def __init__(self, config: EngineConfig, work: Path, place: str) -> None:
        self._work = work / "spark-tables"
        self._work.mkdir()
        self._count = 0
        self._session = start(config, work, place)
        self.connection = ibis.pyspark.connect(self._session)

    def read(self, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
        return read_raw(self._session, table, source, files, self._stored)

    def keep(self, name: str, rows: ir.Table) -> ir.Table:
        return self.connection.table(self._stored(name, self._frame(rows)))

    def parquet(self, path: Path) -> ir.Table:
        return self.connection.read_parquet(str(path))

    def batches(self, rows: ir.Table, size: int) -> Iterator[pa.RecordBatch]:
        self._count += 1
        folder = self._work / f"sorted-{self._count}"
        self._frame(rows).write.parquet(str(folder))
        yield from _batches(folder, size)
        shutil.rmtree(folder)

    def write(self, rows: ir.Table, path: Path, target: pa.Schema) -> int:
        return write_batches(self.batches(rows, ROW_GROUP), target, path)

    def moment(self, us: ir.Value) -> ir.Value:
        return functions.timestamp_micros(us)

    def micros(self, moment: ir.Value) -> ir.Value:
        return functions.unix_micros(moment)

    def as_json(self, columns: Iterable[tuple[str, ir.Value]]) -> ir.Value:
        return functions.to_json(ibis.struct(dict(columns))).cast("string")

    def close(self) -> None:
        self._session.stop()

    def _frame(self, rows: ir.Table) -> Any:
        self.connection._run_pre_execute_hooks(rows)  # functions and tables of Python's
        return self._session.sql(str(self.connection.compile(rows)))

    def _stored(self, name: str, frame: Any) -> str:
        """Write a frame; the name of the view of what was written."""
        # A name of its own each time: expressions over the table before it stay what they were.
        self._count += 1
        view = f"{name}_{self._count}"
        path = str(self._work / view)
        frame.write.parquet(path)
        self._session.read.parquet(path).createOrReplaceTempView(view)
        return view


def _batches(folder: Path, size: int) -> Iterator[pa.RecordBatch]:
    """Rows of a folder that Spark wrote sorted: its files are in order."""
    for part in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(size)
