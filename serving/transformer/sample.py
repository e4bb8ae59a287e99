"""A random sample of what clients asked of late, for a rollout that asks a new version the same.

It holds user ids. It is kept in memory alone, is bounded in number, size and age, and leaves this
process by the side door only: it is not logged and not written to disk.
"""

import heapq
import random
import time
from collections import deque
from collections.abc import Callable

import orjson

from serving.transformer.request import Ask

# The window moves by a tenth of itself.
_SLICES = 10
# A row of about 1,000 ids. What is longer is not sampled: clients choose how long a row is, and the
# sample shares its pod's memory.
_MAX_ROW_BYTES = 16_384
_ANY = 2.0  # above every key


class RequestSample:
    """Rows of the last `age_s` seconds or a little less, each as likely as any other.

    Bottom-k sampling: every row draws a key, uniform in [0, 1), and those with the smallest keys
    are the sample. Each slice of the window keeps its own smallest, since older ones that are
    smaller still will leave before them; so a slice needs no more than `size` rows, and all of
    them together hold about `size` × (1 + ln 10).

    Args:
        size: most rows that are given; 0: nothing is kept.
        age_s: seconds after which a row is forgotten.
        clock: seconds, ascending.
    """

    def __init__(
        self, size: int, age_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size, self._age_s, self._clock = size, age_s, clock
        # Oldest first: when each began, and its rows as a heap with the largest key on top.
        self._slices: deque[tuple[float, list[tuple[float, bytes]]]] = deque()
        self._slice_ends = -float("inf")
        self._rows: list[tuple[float, bytes]] = []  # of the latest slice
        self._below = _ANY  # keys from which on a row is not kept

    def offer(self, ask: Ask) -> None:
        """Take a request's rows into account. Nothing is copied of those that are not kept."""
        if not self._size:
            return
        if self._clock() >= self._slice_ends:
            self._begin_slice()
        for row in range(ask.rows):
            key = random.random()
            if key < self._below:
                self._keep(key, _encode(ask, row))

    def draw(self, limit: int) -> list[bytes]:
        """At most `limit` rows as JSON objects, in random order."""
        self._forget()
        rows = heapq.nlargest(self._size, [row for _, rows in self._slices for row in rows])
        return [text for _, text in random.sample(rows, min(limit, len(rows)))]

    def _keep(self, key: float, text: bytes) -> None:
        if len(text) > _MAX_ROW_BYTES:
            return
        # Keys are negative there: heapq has the smallest on top.
        if len(self._rows) < self._size:
            heapq.heappush(self._rows, (-key, text))
        else:
            heapq.heapreplace(self._rows, (-key, text))
        if len(self._rows) == self._size:
            self._below = -self._rows[0][0]

    def _begin_slice(self) -> None:
        self._forget()
        later: list[tuple[float, bytes]] = []
        for _, rows in reversed(self._slices):
            later = heapq.nlargest(self._size, later + rows)
            if len(later) == self._size:
                rows[:] = [row for row in rows if row >= later[-1]]
        self._rows, self._below = [], _ANY
        now = self._clock()
        self._slices.append((now, self._rows))
        self._slice_ends = now + self._age_s / _SLICES

    def _forget(self) -> None:
        oldest = self._clock() - self._age_s
        while self._slices and self._slices[0][0] <= oldest:
            self._slices.popleft()


def _encode(ask: Ask, row: int) -> bytes:
    """A row as it was sent, without the padding of its tensors."""

    def ids(rows: list[list[bytes]]) -> list[str]:
        return [each.decode() for each in rows[row] if each]

    sent: dict[str, object] = {
        "user_id": None if ask.user_ids is None else ask.user_ids[row],
        "history": None if ask.history is None else ids(ask.history),
        "exclude": [] if ask.exclude is None else ids(ask.exclude),
        "k": ask.k,
    }
    if ask.times is not None and ask.history is not None:
        pairs = zip(ask.history[row], ask.times[row], strict=True)
        sent["history_times"] = [time for each, time in pairs if each]
    return orjson.dumps(sent)
