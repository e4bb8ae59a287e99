"""The running endpoint (Envoy ▸ Triton ▸ three graphs) against the same graphs in this process.

The peer is bare ONNX Runtime without any server: the ratio is what serving costs. Requests are
the version's golden ones, so histories from none to the longest; both sides answer all of them.
Histories by id: the look-up of a user's features is not part of it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from recommender.files import read_json
from recommender.onnx_session import open_session
from serving.client import RecommendClient

ROUNDS, CONCURRENCY = 40, 16


def measure(version_folder: Path, url: str) -> dict[str, Any]:
    """Latency in ms at one request in flight, and requests/s at CONCURRENCY, of both sides."""
    golden = read_json(version_folder / "golden.json")
    requests = [(each["history"], each["exclude"]) for each in golden] * ROUNDS
    local = _in_process(version_folder)
    with RecommendClient(url) as client:

        def remote(history: Sequence[str], exclude: Sequence[str]) -> None:
            client.recommend(history, exclude)

        figures = {}
        for step, (name, ask) in enumerate({"endpoint": remote, "onnxruntime": local}.items(), 1):
            print(f"{step}/2 {name}: {len(requests)} requests, twice", flush=True)
            figures[name] = _latency(ask, requests) | _throughput(ask, requests)
    figures["ratio"] = {
        key: figures["endpoint"][key] / figures["onnxruntime"][key] for key in figures["endpoint"]
    }
    return figures


Ask = Callable[[Sequence[str], Sequence[str]], None]


def _latency(ask: Ask, requests: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    for request in requests[: len(requests) // 10]:
        ask(*request)
    taken = []
    for request in requests:
        began = time.perf_counter()
        ask(*request)
        taken.append((time.perf_counter() - began) * 1e3)
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def _throughput(ask: Ask, requests: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        began = time.perf_counter()
        list(pool.map(lambda request: ask(*request), requests))
        return {"requests_per_s": len(requests) / (time.perf_counter() - began)}


def _in_process(version_folder: Path) -> Ask:
    lookup, ranker, decode = (
        open_session(version_folder / name / "1" / "model.onnx")
        for name in ("lookup", "ranker", "decode")
    )

    def row(ids: Sequence[str]) -> np.ndarray:
        return np.array(ids, dtype=object).reshape(1, len(ids))

    def ask(history: Sequence[str], exclude: Sequence[str]) -> None:
        ids = lookup.run(
            ["history_ids", "seen_ids"], {"history": row(history), "exclude": row(exclude)}
        )
        indices, _ = ranker.run(
            ["item_indices", "scores"], dict(zip(("history_ids", "seen_ids"), ids, strict=True))
        )
        decode.run(["item_ids"], {"item_indices": indices})

    return ask
