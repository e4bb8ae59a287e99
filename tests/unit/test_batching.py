"""Which setting the sweep of benchmarks.batching calls the best."""

import os
import subprocess
import sys
from typing import Any

from benchmarks.batching import Setting, best
from benchmarks.usage import processor_s
from serving.process import ProcessRef

PLAIN, DELAYED, MERGED = Setting(), Setting(delay_us=1000), Setting(preferred=(8,))


def levels(alone_ms: float, cpu_ms: float) -> dict[int, dict[str, Any]]:
    alone = {1: {"round_p50_ms": [alone_ms, 9.0], "round_cpu_ms": [0.01]}}
    return alone | {n: {"round_p50_ms": [1.0], "round_cpu_ms": [cpu_ms, 9.0]} for n in (16, 64)}


def test_least_time_by_the_best_rounds() -> None:
    results = {PLAIN: levels(1.0, 1.5), MERGED: levels(1.05, 1.0)}
    assert best(results) == MERGED


def test_a_lone_request_does_not_pay_for_throughput() -> None:
    results = {PLAIN: levels(1.0, 3.0), DELAYED: levels(2.0, 1.0)}
    assert best(results) == PLAIN


def test_the_simplest_where_the_rounds_cannot_tell() -> None:
    results = {PLAIN: levels(1.0, 1.03), MERGED: levels(1.0, 1.0)}
    assert best(results) == PLAIN


def test_time_of_a_session() -> None:
    code = (
        "import sys, time\n"
        "while time.process_time() < 0.3: pass\n"
        "print(time.process_time(), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            its_own = float(child.stdout.readline())
            measured = processor_s(ProcessRef(pid=child.pid, started=0))
        finally:
            child.stdin.close()  # ends its reading
    # The kernel counts user and system time in whole ticks, both rounded down.
    ticks = 2 / os.sysconf("SC_CLK_TCK")
    assert its_own - ticks <= measured <= its_own + 0.1
