"""From samples to figures."""

import numpy as np
import pytest

from benchmarks.figures import aims, at_equal_p99, summarise
from benchmarks.systems import BARE, ENVOY, PEER, TRITON, WHOLE
from benchmarks.tables import as_markdown
from benchmarks.worker import Sample


def levels(*rows: tuple[int, float, float, float]) -> dict[int, dict[str, object]]:
    """(in flight, p50, p99, answers/s) each."""
    return {
        level: {"p50_ms": p50, "p95_ms": p99, "p99_ms": p99, "answers_per_s": rate, "errors": {}}
        for level, p50, p99, rate in rows
    }


OURS = levels((1, 1.5, 3, 600), (4, 3, 8, 1200), (16, 9, 30, 1500))
PEERS = levels((1, 3, 9, 300), (4, 10, 20, 400), (16, 40, 90, 350))


def test_rounds_are_pooled_by_answers_and_time() -> None:
    fast = Sample(np.full(900, 1.0, dtype="<f4"), {}, 1.0, 950)
    slow = Sample(np.full(100, 11.0, dtype="<f4"), {"UNAVAILABLE": 2}, 3.0, 150)
    found = summarise([fast, slow])
    assert (found["p50_ms"], found["p99_ms"]) == (1.0, 11.0)
    assert found["answers_per_s"] == 250
    assert found["errors"] == {"UNAVAILABLE": 2}
    assert found["round_p50_ms"] == [1.0, 11.0]


def test_equal_p99_is_the_peers_at_its_best() -> None:
    found = at_equal_p99(OURS, PEERS)
    assert (found["peer_in_flight"], found["limit_ms"], found["in_flight"]) == (4, 20, 4)
    assert found["ratio"] == pytest.approx(3.0)
    assert at_equal_p99(levels((1, 1, 21, 9)), PEERS)["ratio"] == 0


def test_aims_say_what_is_met() -> None:
    figures = {BARE: levels((1, 0.3, 1, 9)), TRITON: levels((1, 1.4, 2, 9)), WHOLE: OURS}
    rows = aims(figures | {PEER: PEERS})
    assert [row["met"] for row in rows] == [True, True, False]
    assert [row["found"] for row in rows] == pytest.approx([3.0, 0.1, 1.1])


def test_the_page_names_machine_and_definitions() -> None:
    systems = dict.fromkeys((BARE, TRITON, ENVOY, WHOLE, PEER), OURS)
    page = as_markdown(
        {
            "measured": "2026-11-24",
            "machine": {
                "processor": "a processor",
                "cores": 2,
                "memory_gib": 24,
                "python": "3.11",
                "packages": {"torch": "2"},
            },
            "figures": {
                "version": "abc",
                "load_before": 0.1,
                "servers": {"kserve": "1"},
                "aims": [{"aim": "quick", "limit": "<= 2 ms", "found": 1.234, "met": True}],
                "at_equal_p99": at_equal_p99(OURS, PEERS),
                "systems": systems,
                "errors": {},
                "overlap": {WHOLE: 1.0},
                "start_s": {"Triton": 0.5},
                "processor_ms": {WHOLE: {"Triton": 0.75, "Envoy": 0.001}},
                "processor_in_flight": 16,
                "memory": {"Triton": {"pss_mib": 100, "rss_mib": 200}},
            },
        }
    )
    for text in ("a processor, 2 cores", "| quick | <= 2 ms | 1.23 | met |", "limit is the peer's"):
        assert text in page
    assert f"| {WHOLE} | 0.75 | Triton 0.75 |" in page
    assert f"| {WHOLE} | 1.50 / 3.00 / 3.00 |" in page
