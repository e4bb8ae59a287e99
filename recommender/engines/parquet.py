"""Record batches of any engine to one parquet file: equal rows give equal bytes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 131_072


class RowGroups:
    """Cuts rows into row groups by their number alone, whatever the sizes of the batches."""

    def __init__(self, writer: pq.ParquetWriter, target: pa.Schema, size: int) -> None:
        self._writer = writer
        self._target = target
        self._size = size
        self._pending: list[pa.Table] = []
        self._rows = 0
        self.total = 0  # rows written, or waiting to be

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Rows of at least the target's columns."""
        for batch in batches:
            table = pa.Table.from_batches([batch])
            self.total += table.num_rows
            while table.num_rows:
                part = table.slice(0, self._size - self._rows)
                self._pending.append(part)
                self._rows += part.num_rows
                table = table.slice(part.num_rows)
                if self._rows == self._size:
                    self.flush()

    def flush(self) -> None:
        """Write what waits as a row group."""
        if self._pending:
            # Chunks are merged: how a column is encoded would follow from their borders.
            table = pa.concat_tables(self._pending).select(self._target.names).cast(self._target)
            self._writer.write_table(table.combine_chunks(), row_group_size=self._size)
            self._pending, self._rows = [], 0


@contextmanager
def row_groups(path: Path, target: pa.Schema, size: int = ROW_GROUP) -> Iterator[RowGroups]:
    """A parquet file of `target`'s columns, to be filled."""
    with pq.ParquetWriter(path, target, compression="zstd") as writer:
        groups = RowGroups(writer, target, size)
        yield groups
        groups.flush()


def write_batches(batches: Iterable[pa.RecordBatch], target: pa.Schema, path: Path) -> int:
    """Write rows of at least `target`'s columns; the number of rows."""
    with row_groups(path, target) as groups:
        groups.add(batches)
    return groups.total
