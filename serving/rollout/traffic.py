"""Requests of the rollout's own: where clients send too few, golden ones through the same door."""

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence

from serving.client import Door, RecommendError, RetryPolicy
from serving.version import GoldenRequest

_TIMEOUT_S = 10.0


class OwnRequests:
    """A thread that asks golden requests at a steady pace, as a client would; started on demand.

    Their answers are not looked at: the gateway counts them with the clients' own, and the judge
    looks at what it counts.

    Args:
        door: where clients ask.
        golden: what to ask, one after the other, again and again.
        per_second: pace.
        limit: most requests between `start_over` and the next.
    """

    def __init__(
        self, door: Door, golden: Sequence[GoldenRequest], per_second: float, limit: int
    ) -> None:
        self._door, self._golden = door, golden
        self._pause_s, self._limit = 1 / per_second, limit
        self._wanted, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = 0

    @property
    def used_up(self) -> bool:
        return self.sent >= self._limit or not self._golden

    def start_over(self) -> None:
        """A new step, a new bound."""
        self.pause()
        self.sent = 0

    def go_on(self) -> None:
        """Send, until `pause` or the bound."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="own-requests", daemon=True)
            self._thread.start()
        self._wanted.set()

    def pause(self) -> None:
        self._wanted.clear()

    def close(self) -> None:
        """End the thread; the request under way is finished."""
        self._ended.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        # Not repeated: a request that fails is evidence.
        with self._door.client(_TIMEOUT_S, RetryPolicy(attempts=1)) as client:
            due = time.monotonic()
            for request in itertools.cycle(self._golden):
                self._wanted.wait()
                if self._ended.is_set():
                    return
                if self.sent >= self._limit:
                    self.pause()
                    continue
                due = max(due + self._pause_s, time.monotonic() - 1.0)
                self._ended.wait(max(due - time.monotonic(), 0.0))
                self.sent += 1
                with contextlib.suppress(RecommendError):
                    client.recommend(
                        request.history, request.exclude, history_times=request.history_times
                    )
