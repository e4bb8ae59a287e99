"""The figures as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.figures import EQUAL_P99

_DEFINITIONS = f"""\
All systems run on the machine at the same time and are asked in turn, in short rounds, so that
what else the machine does hits all alike; the load generator is a process of its own on the same
cores. *In flight* is a closed loop: that many senders, each with one request at a time. Percentiles
are over all answers of all rounds. {EQUAL_P99} The peer loads the torch model (FP32) that the
version's INT8 graph was made from; it is asked over HTTP with kept connections, the others over
gRPC. Bare ONNX Runtime, Triton and Triton through Envoy get the users' histories in the request;
the whole way and the peer get user ids and look the histories up. PSS counts what several processes
share once.
"""


def as_markdown(kept: Mapping[str, Any]) -> str:
    """The page of a results file (benchmarks.machine.keep)."""
    figures, machine = kept["figures"], kept["machine"]
    packages = machine["packages"] | figures["servers"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    parts = [
        "# Serving, measured",
        f"{kept['measured']}, model version {figures['version']}, {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB; Python {machine['python']}, "
        f"{versions}. Load average before: {figures['load_before']:.2f}. "
        "`make bench-serving` measures again.",
        _DEFINITIONS,
        "## Aims",
        _table(
            ("", "aim", "found", ""),
            (
                (row["aim"], row["limit"], f"{row['found']:.2f}", "met" if row["met"] else "missed")
                for row in figures["aims"]
            ),
        ),
        _equal(figures["at_equal_p99"]),
        "## Latency (p50 / p95 / p99, ms)",
        _by_level(
            figures["systems"],
            lambda f: " / ".join(f"{f[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
        ),
        "## Throughput (answers/s)",
        _by_level(figures["systems"], lambda f: f"{f['answers_per_s']:,.0f}"),
        f"## Processor time an answer (ms, {figures['processor_in_flight']} in flight)",
        _table(
            ("", "sum", "of it"),
            (
                (
                    name,
                    f"{sum(parts.values()):.2f}",
                    ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items() if ms >= 0.005),
                )
                for name, parts in figures["processor_ms"].items()
            ),
        ),
        "Of the servers, not of who asks; cores divided by the sum is what a machine can answer.",
        "Requests without an answer: "
        + (", ".join(f"{name}: {errors}" for name, errors in figures["errors"].items()) or "none")
        + ". Top-10 items in common, for the same users: "
        + "; ".join(f"{pair} {share:.3f}" for pair, share in figures["overlap"].items())
        + ".",
        "## From process start to READY, and memory",
        _table(
            ("", "start, s", "PSS, MiB", "RSS, MiB"),
            (
                (
                    name,
                    f"{figures['start_s'][name]:.1f}" if name in figures["start_s"] else "–",
                    f"{memory['pss_mib']:,.0f}",
                    f"{memory['rss_mib']:,.0f}",
                )
                for name, memory in figures["memory"].items()
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _equal(found: Mapping[str, Any]) -> str:
    return (
        f"At equal p99 ({found['limit_ms']:.1f} ms): the whole way {found['answers_per_s']:,.0f} "
        f"answers/s ({found['in_flight']} in flight), the peer "
        f"{found['peer_answers_per_s']:,.0f} ({found['peer_in_flight']} in flight)."
    )


def _by_level(systems: Mapping[str, Mapping[str, Any]], show: Any) -> str:
    levels = list(next(iter(systems.values())))
    return _table(
        ("in flight", *levels),
        ((name, *(show(figures[level]) for level in levels)) for name, figures in systems.items()),
    )


def _table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
