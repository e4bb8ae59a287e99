"""One thread for blocking calls that may hang, seen from an event loop.

Not an executor: those are waited for when the program ends, however long their calls hang.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Worker:
    """Runs calls one after another in a daemon thread of its own."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of `call`. Giving up on it (cancellation) does not stop the call."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._jobs.put((loop, answer, call))
        return await answer

    def stop(self, last: Callable[[], object] = lambda: None) -> None:
        """End the thread after the calls it has and a `last` one; nothing waits for that."""
        self._jobs.put((None, None, last))

    def _work(self) -> None:
        while True:
            job = loop, answer, call = self._jobs.get()
            if loop is None:
                call()
                return
            result, error = None, None
            try:
                result = call()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, answer, result, error)
            del job, loop, answer, call, result, error  # not kept until the next one


def _settle(answer: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if answer.done():  # given up on
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
