"""Record batches of any engine to one parquet file: equal rows give equal bytes."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 131_072


def write_batches(batches: Iterable[pa.RecordBatch], target: pa.Schema, path: Path) -> int:
    """Write rows of at least `target`'s columns; the number of rows.

    Row groups are cut by number of rows alone, whatever the sizes of the batches.
    """
    total = 0
    with pq.ParquetWriter(path, target, compression="zstd") as writer:
        pending: list[pa.Table] = []
        rows = 0
        for batch in batches:
            table = pa.Table.from_batches([batch])
            while table.num_rows:
                part = table.slice(0, ROW_GROUP - rows)
                pending.append(part)
                rows += part.num_rows
                table = table.slice(part.num_rows)
                if rows == ROW_GROUP:
                    writer.write_table(_typed(pending, target))
                    total, pending, rows = total + rows, [], 0
        if pending:
            writer.write_table(_typed(pending, target))
            total += rows
    return total


def _typed(parts: list[pa.Table], target: pa.Schema) -> pa.Table:
    """Chunks are merged: how a column is encoded would follow from their borders."""
    table = pa.concat_tables(parts).select(target.names).cast(target)
    return table.combine_chunks()
