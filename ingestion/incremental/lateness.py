"""Events that came too late: older than what was known when their partition came.

The watermark of a partition is the newest event of the partitions before it, by name. So which
events are late follows from the files alone, not from when they were read, and a day that is
delivered again, or years later, is judged as it was the first time.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.cleaning.rule import Rule
from ingestion.engines.base import Engine, Keep
from recommender import schema

_FROM, _TO, _PARTITION = "__from", "__to", "__partition"
_NEWEST, _WATERMARK = "__newest", "__watermark"


class Lateness:
    """Of the partitions of one run."""

    def __init__(self, engine: Engine, ranges: Mapping[str, tuple[int, int]], work: Path) -> None:
        """
        Args:
            ranges: positions of each partition's rows, in the order of partitions.
            work: a folder for this run.
        """
        path = work / "ranges.parquet"
        table = pa.table(
            {
                _PARTITION: list(ranges),
                _FROM: pa.array([start for start, _ in ranges.values()], pa.int64()),
                _TO: pa.array([end for _, end in ranges.values()], pa.int64()),
            }
        )
        pq.write_table(table, path)
        self._ranges = engine.connection.read_parquet(path)

    def newest(self, events: ir.Table) -> dict[str, datetime]:
        """Of each partition that has events, the newest one's time."""
        found = self._newest(events).to_pyarrow()
        return dict(zip(found[_PARTITION].to_pylist(), found[_NEWEST].to_pylist(), strict=True))

    def rule(self, max_lateness_days: float, newest_possible: datetime) -> Rule:
        """Drops events that are older than their partition's watermark by more.

        Args:
            newest_possible: later events make no watermark, for their times are wrong.
        """
        allowed = ibis.interval(seconds=round(max_lateness_days * 86_400))
        reason = f"late by more than {max_lateness_days:g} days"

        def drops(usable: ir.Table, keep: Keep) -> ir.Table:
            believed = usable.filter(usable[schema.TIMESTAMP] <= newest_possible)
            newest = keep("newest_of_partitions", self._newest(believed))
            before = ibis.window(order_by=_FROM, preceding=(None, 1))
            marks = newest.mutate(**{_WATERMARK: newest[_NEWEST].max().over(before)})
            marks = keep("watermarks", marks)
            moments = usable.select(schema.POSITION, schema.TIMESTAMP)
            placed = moments.inner_join(marks, _inside(moments, marks))
            late = placed.filter(placed[schema.TIMESTAMP] < placed[_WATERMARK] - allowed)
            return late.select(schema.POSITION, reason=ibis.literal(reason))

        return Rule("max_lateness_days", drops)

    def _newest(self, events: ir.Table) -> ir.Table:
        moments = events.select(schema.POSITION, schema.TIMESTAMP)
        placed = moments.inner_join(self._ranges, _inside(moments, self._ranges))
        return placed.group_by(_PARTITION, _FROM, _TO).agg(
            **{_NEWEST: placed[schema.TIMESTAMP].max()}
        )


def _inside(events: ir.Table, ranges: ir.Table) -> list[ir.BooleanValue]:
    position = events[schema.POSITION]
    return [position >= ranges[_FROM], position < ranges[_TO]]
