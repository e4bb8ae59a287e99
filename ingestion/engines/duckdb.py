"""DuckDB as the engine of ingestion."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import ibis
import ibis.expr.types as ir

from ingestion.errors import IngestError
from ingestion.reading.duckdb_files import read_raw
from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.reading.sql_text import out_of_room, said
from ingestion.sources import TableSource
from recommender.engines import functions
from recommender.engines.duckdb import DuckDBTables


class DuckDBEngine(DuckDBTables):
    """DuckDB's tables, filled from sources."""

    def read(self, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
        return read_raw(self.connection, table, source, files)

    def as_json(self, columns: Iterable[tuple[str, ir.Value]]) -> ir.Value:
        return functions.to_json(ibis.struct(dict(columns))).cast("string")

    @contextmanager
    def _named(self, table: str) -> Iterator[None]:
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
