"""Side doors of this machine's transformers: both versions asked the same, in bounded time."""

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from serving.rollout.evidence import MetricsUnavailable, Pair, Ranked, Request
from serving.rollout.side_door import ask, pair, sample

# Requests that both versions are asked at once: they share the machine with clients'.
_ASKED_AT_ONCE = 2
# A canary that hangs must not keep its rollout from noticing: longest for one answer, and for the
# last question of several to begin.
_ANSWER_S, _ASKING_S = 2.0, 3.0


class LocalSideDoor(NamedTuple):
    """That of one version, at host:port."""

    version: str
    address: str

    def sample(self, limit: int) -> list[Request]:
        """Some of what clients asked of late.

        Raises:
            MetricsUnavailable
        """
        try:
            return sample(self._json, limit)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MetricsUnavailable(
                f"the side door of {self.version}'s transformer, {self.address}: "
                f"{error or type(error).__name__}"
            ) from error

    def answer(self, request: Request) -> Ranked | None:
        """None: an error, or nothing in time."""
        try:
            return ask(self._json, request).ranked
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def _json(self, method: str, path: str, content: Any) -> Any:
        connection = http.client.HTTPConnection(self.address, timeout=_ANSWER_S)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
            if response.status != 200:
                raise ValueError(f"{method} {path}: HTTP {response.status}: {text[:200]}")
            return json.loads(text)
        finally:
            connection.close()


def draw(stable: LocalSideDoor, canary: LocalSideDoor, limit: int) -> list[Request]:
    """Up to `limit` requests of clients of either version, half of each where both have enough.

    The canary has few at first, and stable has none in the end.

    Raises:
        MetricsUnavailable
    """
    shorter, longer = sorted((door.sample(limit) for door in (stable, canary)), key=len)
    shorter = shorter[: max(limit // 2, limit - len(longer))]
    return shorter + longer[: limit - len(shorter)]


def ask_both(
    stable: LocalSideDoor, canary: LocalSideDoor, requests: Sequence[Request]
) -> list[Pair]:
    """Both answers to each request, of as many as there is time for."""
    late = time.monotonic() + _ASKING_S

    def answers(request: Request) -> Pair | None:
        if time.monotonic() > late:
            return None
        return pair(request, stable.answer(request), canary.answer(request))

    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        return [found for found in pool.map(answers, requests) if found is not None]
