"""What an ingestion asks of the engine that computes its tables."""

from collections.abc import Iterable
from typing import Protocol

import ibis.expr.types as ir

from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.sources import TableSource
from recommender.engines.base import Keep, TableEngine

__all__ = ["Engine", "Keep"]


class Engine(TableEngine, Protocol):
    """An engine that reads sources too."""

    def read(self, table: str, source: TableSource, files: list[SourceFile]) -> RawTable:
        """Files of a table as rows of the engine, untouched, each with its position.

        Raises:
            IngestError: a file is empty, undecodable, or lacks a column.
        """
        ...

    def as_json(self, columns: Iterable[tuple[str, ir.Value]]) -> ir.Value:
        """Named values as one JSON object, nulls included, in their order."""
        ...
