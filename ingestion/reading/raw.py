"""A table as it was read, and where its rows come from."""

from dataclasses import dataclass, field
from pathlib import Path

from ingestion.sources import TableSource

RAW_POSITION, RAW_MALFORMED = "__position", "__malformed"


@dataclass
class RawTable:
    """A table as read: what it is called in the database and where its rows come from."""

    table: str
    source: TableSource
    name: str
    columns: list[str]
    rows: int = 0
    files: list[tuple[Path, int]] = field(default_factory=list)  # file, position of its first row

    def place(self, position: int) -> str:
        """ "file 'x.csv', line 12": where a person finds the row."""
        path, start = next(pair for pair in reversed(self.files) if pair[1] <= position)
        offset = {"csv": 2, "tsv": 2, "jsonl": 1, "parquet": 1}[self.source.format]
        unit = "row" if self.source.format == "parquet" else "line"
        return f"file '{path}', {unit} {position - start + offset}"
