"""Concurrent calls, merged into few.

A call with many keys costs little more than a call with one, for who answers it and for Python. So
what is asked while calls are under way waits, and goes together as the next; what is asked alone
goes at once. Lookups share reads of the feature store so, and requests share those to Triton.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Row = TypeVar("Row")
# Whether keys fit into a call beside those that it let in before.
Admits = Callable[[Sequence[Any]], bool]


class _Asked:
    """One caller's keys, and where its rows go."""

    __slots__ = ("answer", "keys", "task")

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys
        self.answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None  # whose call has them, once one does


class Batcher(Generic[Key, Row]):
    """Merges the calls of one event loop.

    Args:
        call: the rows of keys, one each in order.
        lanes: how many of it may be under way at the same time.
        room: the room of a new call. Who has waited longest is let in whatever it says, and who
            does not fit waits for the next call.
        stoppable: whether cancelling a `call` ends it. One that nobody waits for any more is then
            cancelled, and its lane free again. Where it would not end, its lane stays taken: calls
            that hang do not pile up, and whoever asks meanwhile waits for as long as he likes to.
    """

    def __init__(
        self,
        call: Callable[[list[Key]], Awaitable[list[Row]]],
        lanes: int,
        room: Callable[[], Admits],
        stoppable: bool,
    ) -> None:
        self._call = call
        self._lanes = lanes
        self._room = room
        self._stoppable = stoppable
        self._queue: list[_Asked] = []
        self._batches: dict[asyncio.Task[None], list[_Asked]] = {}
        self._starting = False  # a task that has not taken its batch yet
        self._closed: Exception | None = None

    def ask(self, keys: list[Key]) -> "asyncio.Future[list[Row]]":
        """One row for each key, in order, or what `call` raises.

        A future, not a coroutine: it needs no task to be waited for with a deadline, and whoever
        cancels it waits no longer.
        """
        asked = _Asked(keys)
        if self._closed:
            asked.answer.set_exception(self._closed)
        else:
            asked.answer.add_done_callback(lambda answer: self._answered(asked))
            self._queue.append(asked)
            self._start()
        return asked.answer

    def close(self, error: Exception) -> None:
        """Answer whoever waits, and whoever comes, with `error`."""
        self._closed = error
        for task, batch in self._batches.items():
            task.cancel()
            self._queue += batch
        for asked in self._queue:
            if not asked.answer.done():
                asked.answer.set_exception(error)
        self._queue.clear()

    def _start(self) -> None:
        if self._queue and not self._starting and len(self._batches) < self._lanes:
            self._starting = True
            task = asyncio.get_running_loop().create_task(self._run())
            self._batches[task] = []
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._batches[task]
        self._start()

    def _answered(self, asked: _Asked) -> None:
        if not asked.answer.cancelled():
            return
        if asked.task is None:
            if asked in self._queue:
                self._queue.remove(asked)
        elif self._stoppable and all(
            other.answer.done() for other in self._batches.get(asked.task, ())
        ):
            asked.task.cancel()

    async def _run(self) -> None:
        self._starting = False
        task = asyncio.current_task()
        assert task is not None
        batch = self._batches[task] = self._take()
        for asked in batch:
            asked.task = task
        if not batch:  # all have left
            return
        try:
            rows = await self._call([key for asked in batch for key in asked.keys])
        except Exception as error:
            for asked in batch:
                if not asked.answer.done():
                    asked.answer.set_exception(error)
            return
        start = 0
        for asked in batch:
            if not asked.answer.done():
                asked.answer.set_result(rows[start : start + len(asked.keys)])
            start += len(asked.keys)

    def _take(self) -> list[_Asked]:
        """The first of the queue, and what fits beside it."""
        admits = self._room()
        batch: list[_Asked] = []
        left: list[_Asked] = []
        for asked in self._queue:
            fits = admits(asked.keys)
            (batch if fits or not batch else left).append(asked)
        self._queue = left
        return batch
