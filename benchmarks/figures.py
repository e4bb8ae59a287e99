"""From samples to figures: percentiles, throughput at equal p99, and the aims."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.systems import BARE, PEER, TRITON, WHOLE
from benchmarks.worker import Sample

Levels = Mapping[int, Mapping[str, Any]]  # figures by requests in flight

EQUAL_P99 = (
    "Throughput at equal p99: the limit is the peer's p99 at that number in flight where its "
    "throughput is highest; the whole way counts with the highest throughput of those of its "
    "numbers in flight whose p99 is within that limit."
)


def summarise(rounds: list[Sample]) -> dict[str, Any]:
    """Percentiles over all answers of all rounds; rounds' own p50 and rate show their spread."""
    total = sum(rounds[1:], rounds[0])
    p50, p95, p99 = np.percentile(total.latencies_ms, [50, 95, 99]).tolist()
    return {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "answers_per_s": total.answers_per_s,
        "answers": len(total.latencies_ms),
        "errors": total.errors,
        "round_p50_ms": [float(np.median(each.latencies_ms)) for each in rounds],
        "round_answers_per_s": [each.answers_per_s for each in rounds],
    }


def at_equal_p99(ours: Levels, peers: Levels) -> dict[str, Any]:
    """EQUAL_P99: limit_ms, both throughputs and numbers in flight, and their ratio."""
    peer_level = max(peers, key=lambda level: peers[level]["answers_per_s"])
    limit = peers[peer_level]["p99_ms"]
    within = [level for level in ours if ours[level]["p99_ms"] <= limit]
    level = max(within, key=lambda level: ours[level]["answers_per_s"], default=None)
    rate = ours[level]["answers_per_s"] if level is not None else 0.0
    return {
        "limit_ms": limit,
        "peer_in_flight": peer_level,
        "peer_answers_per_s": peers[peer_level]["answers_per_s"],
        "in_flight": level,
        "answers_per_s": rate,
        "ratio": rate / peers[peer_level]["answers_per_s"],
    }


def aims(figures: Mapping[str, Levels]) -> list[dict[str, Any]]:
    """What was aimed at and what was found: rows of {aim, limit, found, met}."""
    p50 = {system: levels[1]["p50_ms"] for system, levels in figures.items()}
    equal = at_equal_p99(figures[WHOLE], figures[PEER])
    rows = [
        ("the whole way's throughput at equal p99, of the peer's", ">= 3", equal["ratio"]),
        ("p50 that the whole way adds to Triton, 1 in flight", "<= 2 ms", p50[WHOLE] - p50[TRITON]),
        ("p50 that Triton adds to bare ONNX Runtime", "<= 1 ms", p50[TRITON] - p50[BARE]),
    ]
    return [
        {"aim": aim, "limit": limit, "found": found, "met": _met(found, limit)}
        for aim, limit, found in rows
    ]


def _met(found: float, limit: str) -> bool:
    sign, number = limit.split()[:2]
    return found >= float(number) if sign == ">=" else found <= float(number)
