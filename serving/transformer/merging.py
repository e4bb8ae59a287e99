"""Requests that come while Triton is busy share the next request to it.

A request to Triton costs its sender and Triton far more than one more row in it does. So only a
few are under way at once, and what comes meanwhile goes together in the next. One that comes alone
goes at once: nothing ever waits for company.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from serving.transformer.errors import RequestFailed

# Rows of a request are padded to its longest: so much padding is always allowed, and beyond it as
# many cells as there are ids.
_FREE_CELLS = 512


class Ranking(NamedTuple):
    """Triton's answer for B rows: BYTES [B, K] and FP32 [B, K], as they came."""

    item_ids: bytes
    scores: bytes
    width: int  # K


class Job:
    """What one client's request asks of Triton."""

    __slots__ = ("excludes", "future", "histories", "ids", "metadata", "request_id", "width")

    def __init__(
        self,
        histories: Sequence[Sequence[bytes | str]],
        excludes: Sequence[Sequence[bytes]] | None,
        request_id: str,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.histories, self.excludes = histories, excludes
        self.request_id, self.metadata = request_id, metadata
        lengths = [len(row) for row in histories]
        self.ids, self.width = sum(lengths), max(lengths)
        self.future: asyncio.Future[Ranking] | None = None

    @property
    def rows(self) -> int:
        return len(self.histories)


class Merger:
    """Passes jobs on to `send`, merged while as many requests as allowed are under way.

    Args:
        send: sends jobs as one request; a Ranking for each, or RequestFailed for all.
        concurrency: requests under way at once.
        max_rows: most rows of one request.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Job]], Awaitable[list[Ranking]]],
        concurrency: int,
        max_rows: int,
    ) -> None:
        self._send, self._free, self._max_rows = send, concurrency, max_rows
        self._waiting: deque[Job] = deque()
        self._sending: set[asyncio.Task[None]] = set()

    async def ask(self, job: Job) -> Ranking:
        """The ranking of one job.

        Raises:
            RequestFailed: as `send` says.
        """
        if self._free:
            self._free -= 1
            try:
                (ranking,) = await self._send([job])
                return ranking
            finally:
                self._free += 1
                self._go_on()
        job.future = asyncio.get_running_loop().create_future()
        self._waiting.append(job)
        return await job.future

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _go_on(self) -> None:
        while self._free and (jobs := self._take()):
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run(jobs))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _take(self) -> list[Job]:
        """The job that has waited longest, and those behind it that fit into one request."""
        taken: list[Job] = []
        left: deque[Job] = deque()
        rows = ids = width = 0
        for job in self._waiting:
            if job.future is None or job.future.done():
                continue  # its client gave up
            together = (rows + job.rows) * max(width, job.width)
            fits = rows + job.rows <= self._max_rows
            if not taken or (fits and together <= 2 * (ids + job.ids) + _FREE_CELLS):
                taken.append(job)
                rows, ids, width = rows + job.rows, ids + job.ids, max(width, job.width)
            else:
                left.append(job)
        self._waiting = left
        return taken

    async def _run(self, jobs: list[Job]) -> None:
        waiting = [job.future for job in jobs if job.future is not None]
        try:
            rankings = await self._send(jobs)
        except Exception as error:
            code = error.code if isinstance(error, RequestFailed) else "INTERNAL"
            for future in waiting:  # each its own, as each gets a traceback of its own
                if not future.done():
                    future.set_exception(RequestFailed(str(error), code))
        else:
            for future, ranking in zip(waiting, rankings, strict=True):
                if not future.done():
                    future.set_result(ranking)
        finally:
            for future in waiting:
                future.cancel()  # does nothing to those that are done
            self._free += 1
            self._go_on()
