"""An endpoint in memory for the rollout's state machine: everything real is in other lanes."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from recommender.errors import Check, KuberecError
from serving.client import Door
from serving.rollout.evidence import (
    Histogram,
    MetricsUnavailable,
    Pair,
    Ranked,
    Request,
    Window,
)
from serving.rollout.record import Note, Rollout
from serving.rollout.target import Observed, RolloutUnderWay

INF = float("inf")
ITEMS = tuple(f"item-{number}" for number in range(10))
SCORES = tuple(10.0 - number for number in range(10))


class Killed(BaseException):
    """The process is gone: nothing after it is done."""


def window(requests: int = 1000, errors: int = 0, seconds: float = 0.004) -> Window:
    """Traffic in which nearly all requests take `seconds`."""
    bounds = (0.001, 0.002, 0.005, 0.01, 0.05, 0.1, INF)
    counts = [0.0] * len(bounds)
    counts[next(i for i, bound in enumerate(bounds) if seconds <= bound)] = float(requests)
    return Window(requests, errors, Histogram(bounds, tuple(counts)), 0.001, requests, 0, 0)


class MemoryTarget:
    """Stable "v1", and whatever the machine puts beside it.

    Attributes:
        stable_window, canary_window: live traffic of every step; None: metrics are away.
        when: called before each method with its name, to let things happen.
        calls: what changed what serves, in order.
    """

    kind: Literal["embedded", "kserve"] = "embedded"

    def __init__(self) -> None:
        self.stable, self.canary, self.percent = "v1", None, 0
        self.stable_ready = self.canary_ready = True
        self.stable_window: Window | None = window()
        self.canary_window: Window | None = window()
        self.canary_items = ITEMS
        self.record: dict[str, Any] | None = None
        self.asked: Literal["promote", "abort"] | None = None
        self.when: Callable[[str], None] = lambda name: None
        self.calls: list[str] = []
        self.notes: list[Note] = []
        self.busy = False

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        if self.busy:
            raise RolloutUnderWay("pid 1 is at it")
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    def load(self) -> Rollout | None:
        return None if self.record is None else Rollout.model_validate(self.record)

    def history(self) -> list[Rollout]:
        last = self.load()
        return [] if last is None else [last]

    def save(self, rollout: Rollout) -> None:
        self.record = copy.deepcopy(rollout.model_dump(mode="json"))

    def requested(self) -> Literal["promote", "abort"] | None:
        return self.asked

    def request(self, what: Literal["promote", "abort"] | None) -> None:
        self.asked = what

    def observe(self) -> Observed:
        self.when("observe")
        return Observed(
            self.stable,
            self.canary,
            self.percent,
            self.percent,
            self.stable_ready,
            self.canary_ready,
            "" if self.stable_ready and self.canary_ready else "a pod is gone",
        )

    def prepare(self, rollout: Rollout) -> list[Check]:
        self._call("prepare")
        if self.canary is None:
            self.canary, self.percent = rollout.canary, 0
        return [Check("golden", 1.0, ">= 1", True)]

    def shift(self, rollout: Rollout, percent: int) -> None:
        self._call(f"shift {percent}")
        self.percent = percent

    def promote(self, rollout: Rollout) -> None:
        self._call("promote")
        assert self.percent == 100
        self.stable, self.canary, self.percent = rollout.canary, None, 0

    def abandon(self, rollout: Rollout) -> None:
        self._call("abandon")
        if not self.stable_ready:
            raise KuberecError("stable is not ready: nothing was taken away")
        self.canary, self.percent = None, 0

    def evidence(self, rollout: Rollout) -> "MemoryTarget":
        return self

    def begin(self) -> None:
        self.when("begin")

    def read(self) -> tuple[Window, Window]:
        self.when("read")
        if self.stable_window is None or self.canary_window is None:
            raise MetricsUnavailable("http://metrics does not answer")
        nothing = window(0)
        return (nothing if self.percent == 100 else self.stable_window), self.canary_window

    def door(self) -> Door:
        return Door("127.0.0.1:1")

    def live_requests(self, rollout: Rollout, limit: int) -> list[Request]:
        return [Request("live", user_id=f"user-{number}") for number in range(limit)]

    def ask_both(self, rollout: Rollout, requests: Sequence[Request]) -> list[Pair]:
        return [
            Pair(each.source, 10, Ranked(ITEMS, SCORES), Ranked(self.canary_items, SCORES))
            for each in requests
        ]

    def announce(self, rollout: Rollout, note: Note) -> None:
        self.notes.append(note)

    def _call(self, name: str) -> None:
        self.when(f"before {name}")
        self.calls.append(name)
        self.when(name)
