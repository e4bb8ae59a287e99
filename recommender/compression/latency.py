"""How fast rankers answer, measured in turns.

A machine is not the same from minute to minute: what runs beside, clocks, heat. Two rankers are
comparable if they are asked in turns within one loop, the same requests, and their medians come
from that loop alone (a ratio of medians of interleaved runs). Turns are short blocks, not single
calls: a ranker that follows another finds its weights thrown out of the processor's cache, and who
serves does not.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.compression.rankers import Answer

BLOCK = 10  # calls a turn
WARMUP = 10


@dataclass(frozen=True)
class Loop:
    """Attributes:
    calls: of each ranker at most.
    least: of each ranker, however long they take.
    seconds: after which, once there are `least`, no turn begins.
    """

    calls: int = 300
    least: int = 50
    seconds: float = 30.0


LOOPS = {1: Loop(), 32: Loop(calls=100)}


@dataclass(frozen=True)
class Latency:
    """Of one ranker at one batch: seconds of each call."""

    batch: int
    seconds: np.ndarray

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.seconds, 50) * 1e3)

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.seconds, 99) * 1e3)

    @property
    def answers_per_s(self) -> float:
        """Of one thread that does nothing else: the slow calls count too."""
        return float(self.batch * len(self.seconds) / self.seconds.sum())


def in_turns(
    rankers: Sequence[Answer],
    inputs: Sequence[Sequence[np.ndarray]],
    batch: int,
    loop: Loop | None = None,
) -> list[Latency]:
    """Ask each ranker the same requests, `batch` a call, block by block in turns.

    Args:
        inputs: the requests as each ranker takes them: a student may read fewer items.
    """
    loop = loop or LOOPS[batch]
    count = len(inputs[0][0])
    rows = [np.arange(call * batch, (call + 1) * batch) % count for call in range(loop.calls)]
    for ranker, own in zip(rankers, inputs, strict=True):
        for some in rows[:WARMUP]:
            ranker(*(each[some] for each in own))
    seconds: list[list[float]] = [[] for _ in rankers]
    began = time.perf_counter()
    for start in range(0, loop.calls, BLOCK):
        if start >= loop.least and time.perf_counter() - began > loop.seconds:
            break
        for ranker, given, took in zip(rankers, inputs, seconds, strict=True):
            requests = [[each[some] for each in given] for some in rows[start : start + BLOCK]]
            for request in requests:
                asked = time.perf_counter()
                ranker(*request)
                took.append(time.perf_counter() - asked)
    return [Latency(batch, np.array(took)) for took in seconds]
