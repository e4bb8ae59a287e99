"""Rows to files in a thread of its own: no answer waits for it, and none fails with it.

The thread shares Python's one lock with the answers. So it takes little at a time, and lets go in
between: whoever answers waits for a fraction of a millisecond at most.
"""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.replay.log_files import SCHEMA, partition
from recommender.files import atomic_file
from serving.transformer import metrics
from serving.transformer.request_log.entry import Entry
from serving.transformer.request_log.retention import sweep
from serving.transformer.request_log.settings import RequestLogConfig

log = logging.getLogger("kuberec.request_log")
_POLL_S, _PAUSE_S = 0.1, 0.002
_CHUNK = 16  # requests that are converted in one go
_MAX_WAITING = 64 * 1024 * 1024  # bytes, where the disk is slower than requests come
_MAX_HELD = 32 * 1024 * 1024  # bytes of converted rows
_SWEEP_S = 600.0

AsRows = Callable[[Sequence[Entry]], pa.RecordBatch]


class LogWriter:
    """Writes what it is offered below `folder`; what it cannot write it counts.

    Args:
        as_rows: entries as rows of SCHEMA.
        clock: seconds, ascending.
    """

    def __init__(
        self,
        folder: Path,
        config: RequestLogConfig,
        as_rows: AsRows,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._config, self._as_rows = Path(folder), config, as_rows
        self._clock = clock
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._offered = self._taken = 0  # bytes; each is written by one thread alone
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._flush_at = float("inf")
        self._files = 0
        self._sweep_at, self._since_sweep = -float("inf"), 0
        self._told = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def offer(self, entry: Entry) -> None:
        """Take a request, or drop it where too much waits already."""
        size = entry.size
        if self._offered - self._taken + size > _MAX_WAITING:
            metrics.LOG_ROWS.labels("dropped").inc(entry.ask.rows)
            return
        self._offered += size
        self._waiting.append((entry, size))

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what there is, and end; a disk that hangs is not waited for longer."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            closing = self._closing.wait(_POLL_S)
            # What comes meanwhile waits for the next time: a row alone costs four times as much.
            for _ in range(-(-len(self._waiting) // _CHUNK)):
                self._convert()
                closing = closing or self._closing.wait(_PAUSE_S)
            if closing:
                while self._waiting:
                    self._convert()
                self._flush()
                return
            if self._clock() >= self._flush_at:
                self._flush()
            self._sweep()

    def _convert(self) -> None:
        count = min(_CHUNK, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        entries = [entry for entry, _ in taken]
        try:
            batch = self._as_rows(entries)
            self._held.append(batch)
            # Summed up here: asking all of them again each time made answers six times slower.
            self._held_rows += batch.num_rows
            self._held_bytes += batch.nbytes
        except Exception as error:  # a defect of ours, which must not end the thread
            self._failed(sum(entry.ask.rows for entry in entries), error)
        self._taken += sum(size for _, size in taken)
        if self._flush_at == float("inf"):
            self._flush_at = self._clock() + self._config.flush_s
        if self._held_rows >= self._config.max_rows_per_file or self._held_bytes > _MAX_HELD:
            self._flush()

    def _flush(self) -> None:
        held, self._held, self._flush_at = self._held, [], float("inf")
        self._held_rows = self._held_bytes = 0
        if not held:
            return
        rows = pa.Table.from_batches(held, schema=SCHEMA)
        days = pc.cast(rows["received"], pa.date32())  # a flush at midnight has two
        found = pc.unique(days).to_pylist()
        for day in found:
            alone = len(found) == 1
            of_day = rows if alone else rows.filter(pc.equal(days, pa.scalar(day, pa.date32())))
            version = of_day["model_version"][0].as_py()
            path = partition(self._folder, version, day) / self._name()
            try:
                with atomic_file(path) as draft:
                    pq.write_table(of_day, draft, compression="zstd")
                self._since_sweep += path.stat().st_size
            except Exception as error:  # of the disk, or of pyarrow
                self._failed(of_day.num_rows, error)
            else:
                metrics.LOG_ROWS.labels("written").inc(of_day.num_rows)
                if self._told:
                    log.info("the request log is written again, to '%s'", self._folder)
                self._told = False

    def _name(self) -> str:
        self._files += 1
        now = datetime.now(UTC)
        host = socket.gethostname()
        return f"part-{now:%H%M%S}-{host}-{os.getpid()}-{self._files}.parquet"

    def _failed(self, rows: int, error: Exception) -> None:
        metrics.LOG_ROWS.labels("failed").inc(rows)
        if not self._told:
            log.warning(
                "the request log in '%s' is not written (%s: %s); requests are answered, and what "
                'is lost is counted in kuberec_request_log_rows_total{outcome="failed"}',
                self._folder,
                type(error).__name__,
                error,
            )
        self._told = True

    def _sweep(self) -> None:
        now = self._clock()
        if now < self._sweep_at and self._since_sweep < self._config.max_bytes // 20:
            return
        self._sweep_at, self._since_sweep = now + _SWEEP_S, 0
        try:
            sweep(
                self._folder,
                self._config.keep_days,
                self._config.max_bytes,
                datetime.now(UTC).date(),
            )
        except OSError as error:
            log.warning("old days of the request log in '%s' stay: %s", self._folder, error)
