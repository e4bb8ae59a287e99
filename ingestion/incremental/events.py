"""The increments of one run, as `ingestion.ingest` uses them: open, read, rules, what is noted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import ibis.expr.types as ir

from ingestion.cleaning.rule import Rule
from ingestion.cleaning.times import newest_possible
from ingestion.engines.base import Engine
from ingestion.errors import IngestError
from ingestion.incremental.increments import Read, open_ledger, read_increments
from ingestion.incremental.lateness import Lateness
from ingestion.privacy.pseudonyms import key_id, user_key
from ingestion.reading.files import SourceFile
from ingestion.reading.raw import RawTable
from ingestion.sources import SourceConfig


class EventPartitions:
    """Partitions of the events, staged in a state folder; a context that holds the ledger.

    Attributes:
        ranges: after `read`, positions of each partition's rows; empty without partitions.
    """

    def __init__(self, config: SourceConfig, state: Path | None, work: Path) -> None:
        """
        Args:
            state: folder of the source's state; without one, everything is new in each run.
            work: a folder for this run.

        Raises:
            IngestError: as `Ledger`; a limit of lateness without partitions to be late in.
        """
        if config.cleaning.max_lateness_days is not None and config.incremental.partition is None:
            raise IngestError(
                "source.cleaning.max_lateness_days needs source.incremental.partition: an event is "
                "late by what the partitions before its own have, and this source has none"
            )
        self._config = config
        key = user_key(config.privacy)
        self._key = key_id(key) if key else None
        self._work = work
        self._ledger = open_ledger(config, state or work / "state", self._key)
        self._lateness: Lateness | None = None
        self.ranges: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ledger is not None:
            self._ledger.close()

    @property
    def on(self) -> bool:
        """Whether the events are read by partitions."""
        return self._ledger is not None

    def read(
        self, engine: Engine, files: Sequence[SourceFile], read: Read
    ) -> tuple[RawTable, ir.Table]:
        """All partitions as one raw table; those that are new or have changed by `read`."""
        assert self._ledger is not None
        found = read_increments(engine, self._config, files, self._ledger, self._work, read)
        self.ranges = dict(found.ranges)
        self._lateness = Lateness(engine, found.ranges, self._work)
        return found.raw, found.rows

    def rules(self) -> list[Rule]:
        """What drops events by the partitions that they came in."""
        cleaning = self._config.cleaning
        days = cleaning.max_lateness_days
        if self._lateness is None or days is None:
            return []
        return [self._lateness.rule(days, newest_possible(cleaning, datetime.now(UTC)))]

    def finish(self, engine: Engine, events: Path) -> dict[str, Any]:
        """After the tables are written: note the watermarks; what snapshot.json says.

        Args:
            events: the snapshot's events.parquet.
        """
        if self._ledger is None or self._lateness is None:
            return {"user_key": self._key}
        kept = engine.connection.read_parquet(events)
        self._ledger.note_newest(self._lateness.newest(kept))
        watermark = self._ledger.watermark
        return {
            "user_key": self._key,
            "incremental": {
                "partitions": len(self.ranges),
                "read": self._ledger.read,
                "watermark": watermark.isoformat() if watermark else None,
            },
        }
