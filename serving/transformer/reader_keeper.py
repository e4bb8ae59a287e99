"""Keeps a feature store open: opens it in the background, again after it failed, until it works.

A reader that failed stays in use until the next one is open: most failures pass by themselves.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from feature_repo.online.reader import StoredFeatures
from feature_repo.online.worker import Worker
from recommender.errors import KuberecError
from serving.transformer import metrics

log = logging.getLogger("kuberec.features")


class Reader(Protocol):
    """What is needed of feature_repo.online.reader.OnlineReader."""

    @property
    def view(self) -> str:
        """Name of the feature view."""

    def read(self, user_ids: Sequence[str]) -> Awaitable[list[StoredFeatures]]:
        """One for each user, in order; may raise anything, and hang until it is cancelled."""

    async def close(self) -> None:
        """Let go of the store."""


class ReaderKeeper:
    """Opens readers of one event loop, one after another.

    Args:
        open_reader: may block, raise and hang; it never runs twice at a time.
        reopen_s: least time between two attempts.
        linger_s: how long a reader that has been replaced stays open for who still waits for it.

    Attributes:
        reader: the reader to use; None before the first could be opened.
        cause: why there is none.
    """

    def __init__(self, open_reader: Callable[[], Reader], reopen_s: float, linger_s: float) -> None:
        self._open, self._reopen_s, self._linger_s = open_reader, reopen_s, linger_s
        self.reader: Reader | None = None
        self.cause = "it is not open yet"
        self._attempted = False
        self._worker = Worker("feature-store-opening")
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def opening(self) -> bool:
        """Whether the first attempt is still under way."""
        return not self._attempted

    def start(self) -> None:
        """Begin."""
        self._wanted.set()
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def reopen(self) -> None:
        """The reader failed: open another one soon."""
        self._wanted.set()

    async def close(self) -> None:
        """Close the reader, and open no more."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._worker.stop()
        old, self.reader = self.reader, None
        metrics.STORE_OPEN.set(0)
        if old:
            await _close(old)

    async def _keep(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                reader = await self._worker.run(self._open)
            except Exception as error:
                self._say(error)
            else:
                self._wanted.clear()
                await self._use(reader)
            self._attempted = True
            await asyncio.sleep(self._reopen_s)

    async def _use(self, reader: Reader) -> None:
        old, self.reader = self.reader, reader
        self.cause = ""
        self._attempted = True
        metrics.STORE_OPEN.set(1)
        metrics.STORE_OPENED.inc()
        log.info("feature store open: histories from the view '%s'", reader.view)
        if old:
            await asyncio.sleep(self._linger_s)
            await _close(old)

    def _say(self, error: Exception) -> None:
        """Log it, once: attempts go on for as long as the store is not there."""
        cause = describe(error)
        if cause != self.cause:
            log.warning("no feature store: %s; trying again every %g s", cause, self._reopen_s)
        self.cause = cause


def describe(error: Exception) -> str:
    """In one line; ours speak for themselves."""
    return str(error) if isinstance(error, KuberecError) else f"{type(error).__name__}: {error}"


async def _close(reader: Reader) -> None:
    try:
        await reader.close()
    except Exception as error:
        log.warning("closing the feature store: %s", error)
