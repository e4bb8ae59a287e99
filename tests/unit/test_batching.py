"""Which setting the sweep of benchmarks.batching calls the best."""

from typing import Any

from benchmarks.batching import Setting, best

PLAIN, DELAYED, MERGED = Setting(), Setting(delay_us=1000), Setting(preferred=(8,))


def levels(alone_ms: float, *rates: float) -> dict[int, dict[str, Any]]:
    found = {1: {"round_p50_ms": [alone_ms, 9.0], "round_answers_per_s": [1e6]}}
    for level, rate in zip((16, 64), rates, strict=True):
        found[level] = {"round_p50_ms": [1.0], "round_answers_per_s": [rate, 1.0]}
    return found


def test_most_answers_by_the_best_rounds() -> None:
    results = {PLAIN: levels(1.0, 1000, 1000), MERGED: levels(1.05, 1500, 1500)}
    assert best(results) == MERGED


def test_a_lone_request_does_not_pay_for_throughput() -> None:
    results = {PLAIN: levels(1.0, 1000, 1000), DELAYED: levels(2.0, 3000, 3000)}
    assert best(results) == PLAIN


def test_the_simplest_where_the_rounds_cannot_tell() -> None:
    results = {PLAIN: levels(1.0, 1000, 1000), MERGED: levels(1.0, 1030, 1020)}
    assert best(results) == PLAIN
