"""What each compression step costs and gains, measured on the graph that serves."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import Check
from recommender.evaluation.metrics import rank_metrics
from recommender.export import rank
from recommender.onnx_session import open_session
from recommender.ranker_inputs import ranker_inputs
from recommender.sequences import Split
from recommender.settings import CompressionConfig

LATENCY_RUNS = 300
LATENCY_WARMUP = 30
MEASURED = (
    "ranker ONNX on the test users; p50 and p99 of batch 1 on ONNX Runtime, CPU, 1 thread; "
    "parameters are the elements of the graph's constants"
)


def topk_metrics(indices_BK: np.ndarray, targets_B: np.ndarray) -> dict[str, float]:
    """HR@10 and NDCG@10 of ranked lists of at least 10; a target outside its list is a miss."""
    if indices_BK.shape[1] < 10:
        raise ValueError(f"lists of {indices_BK.shape[1]} items cannot be judged at 10")
    found_BK = indices_BK == targets_B[:, None]
    ranks = np.where(found_BK.any(axis=1), found_BK.argmax(axis=1) + 1.0, math.inf)
    metrics = rank_metrics(ranks, cutoffs=(10,))
    return {name: metrics[name] for name in ("ndcg@10", "hr@10")}


def measure(
    step: str,
    path: Path,
    split: Split,
    max_length: int,
    max_seen: int,
    times: Sequence[np.ndarray] | None = None,
) -> dict[str, Any]:
    """One row of the ledger for the ranker at `path`; `times` as `ranker_inputs` takes them."""
    session = open_session(path)
    inputs = ranker_inputs(split.histories, max_length, max_seen, times)
    indices = [
        rank(session, *(each[start : start + 64] for each in inputs))[0]
        for start in range(0, len(split), 64)
    ]
    metrics = topk_metrics(np.concatenate(indices), split.targets)
    seconds = _latencies(session, inputs)
    return {
        "step": step,
        **metrics,
        "parameters": _constants(path),
        "bytes": path.stat().st_size,
        "p50_ms": float(np.percentile(seconds, 50) * 1e3),
        "p99_ms": float(np.percentile(seconds, 99) * 1e3),
    }


def budget_checks(
    full: Mapping[str, Any], compressed: Mapping[str, Any], config: CompressionConfig
) -> list[Check]:
    """The compressed row against the full one and the budgets."""
    step = compressed["step"]
    loss = 1 - compressed["ndcg@10"] / full["ndcg@10"] if full["ndcg@10"] else 0.0
    ratio = full["bytes"] / compressed["bytes"]
    speedup = full["p50_ms"] / compressed["p50_ms"]
    most = config.max_quality_loss
    return [
        Check(f"{step}: NDCG@10 lost", round(loss, 4), f"<= {most:.1%}", loss <= most),
        Check(
            f"{step}: times smaller",
            round(ratio, 2),
            f">= {config.min_size_ratio:g}",
            ratio >= config.min_size_ratio,
        ),
        Check(
            f"{step}: times faster (p50)",
            round(speedup, 2),
            f">= {config.min_speedup:g}",
            speedup >= config.min_speedup,
        ),
        Check(
            f"{step}: bytes",
            compressed["bytes"],
            f"<= {config.max_bytes:,}",
            compressed["bytes"] <= config.max_bytes,
        ),
    ]


def _latencies(session: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
    seconds = []
    for run in range(LATENCY_WARMUP + LATENCY_RUNS):
        row = slice(run % len(inputs[0]), run % len(inputs[0]) + 1)
        started = time.perf_counter()
        rank(session, *(each[row] for each in inputs))
        seconds.append(time.perf_counter() - started)
    return np.array(seconds[LATENCY_WARMUP:])


def _constants(path: Path) -> int:
    import onnx

    graph = onnx.load(str(path)).graph
    return sum(math.prod(constant.dims) for constant in graph.initializer)
