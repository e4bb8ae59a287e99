"""Made-up traffic and answers of two versions, for the judge."""

from collections.abc import Callable
from typing import Any

import numpy as np

from serving.rollout.evidence import Histogram, Pair, Ranked, Window
from serving.rollout.judging.judge import Round
from serving.rollout.record import CheckRow, Verdict
from serving.rollout.settings import RolloutConfig

INFINITY = float("inf")
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, INFINITY)
CONFIG = RolloutConfig()
LOOKS = 48  # of the default configuration

Rank = Callable[[np.random.Generator, list[str]], list[str]]


def histogram(seconds: Any) -> Histogram:
    return Histogram(BOUNDS, tuple(np.histogram(seconds, (0.0, *BOUNDS))[0].tolist()))


def traffic(
    random: np.random.Generator,
    requests: int,
    failing: float = 0.001,
    slower_s: float = 0.0,
    fallbacks: float = 0.002,
    short: float = 0.0,
) -> Window:
    """Requests of one row, durations with a tail."""
    seconds = 0.004 * random.lognormal(0, 0.7, requests) + slower_s
    return Window(
        requests,
        random.binomial(requests, failing),
        histogram(seconds),
        0.0005 if requests else None,
        requests,
        random.binomial(requests, fallbacks),
        random.binomial(requests, short),
    )


def plus(first: Window, second: Window) -> Window:
    counts = map(sum, zip(first.latency.counts, second.latency.counts, strict=True))
    return Window(
        first.requests + second.requests,
        first.errors + second.errors,
        Histogram(BOUNDS, tuple(counts)),
        0.0005,
        first.rows + second.rows,
        first.fallbacks + second.fallbacks,
        first.short + second.short,
    )


def alike(random: np.random.Generator, items: list[str]) -> list[str]:
    return items


def retrained(random: np.random.Generator, items: list[str]) -> list[str]:
    """Half of the items, in about their order, and half from further down."""
    kept = sorted(random.choice(len(items), len(items) // 2, replace=False).tolist())
    known = [items[place] for place in kept]
    others = [f"item {place}" for place in random.permutation(600) if f"item {place}" not in known]
    return (known + others)[: len(items)]


def shuffled(random: np.random.Generator, items: list[str]) -> list[str]:
    return [f"item {place}" for place in random.choice(1300, len(items), replace=False)]


def popular(random: np.random.Generator, items: list[str]) -> list[str]:
    return [f"item {place}" for place in range(len(items))]


def both_asked(
    random: np.random.Generator,
    count: int = 100,
    rank: Rank = alike,
    failing: float = 0.0,
    shift: float = 0.0,
) -> list[Pair]:
    """Golden pairs first; items with a low number are popular."""
    pairs = [Pair("golden", 10, answer(popular(random, [""] * 10)), None, cold=True)]
    pairs = [pairs[0]._replace(canary=pairs[0].stable)]
    while len(pairs) < count:
        places = np.unique(np.minimum(random.geometric(0.01, 10), 1300))
        items = [f"item {place}" for place in random.permutation(places)]
        scores = sorted(random.normal(size=len(items)).tolist(), reverse=True)
        found = rank(random, items)
        canary = Ranked(tuple(found), tuple(score + shift for score in scores[: len(found)]))
        failed = random.random() < failing
        source = "golden" if len(pairs) < 16 else "live"
        stable = Ranked(tuple(items), tuple(scores))
        pairs.append(Pair(source, len(items), stable, None if failed else canary))
    return pairs


def answer(items: list[str]) -> Ranked:
    return Ranked(tuple(items), tuple(float(-place) for place in range(len(items))))


def look(seed: int = 1, **changes: Any) -> Round:
    random = np.random.default_rng(seed)
    found = Round(25, traffic(random, 1500), traffic(random, 500), "", both_asked(random))
    return found._replace(**changes)


def row(verdict: Verdict, name: str) -> CheckRow:
    (found,) = [check for check in verdict.checks if name in check.name]
    return found
