"""Bare ONNX Runtime: the version's three graphs one after the other, in this process's threads.

What no server can be faster than: no protocol, no queue, no copies between processes.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Sample, serve_orders
from recommender.onnx_session import open_session

MODELS = ("lookup", "ranker", "decode")


def answerer(version: Path) -> Callable[[Sequence[str]], tuple[list[str], list[float]]]:
    """A function from a history to its top K and their scores."""
    lookup, ranker, decode = (open_session(version / name / "1/model.onnx") for name in MODELS)
    nothing = np.empty((1, 0), dtype=object)

    def answer(history: Sequence[str]) -> tuple[list[str], list[float]]:
        row = np.array(history, dtype=object).reshape(1, len(history))
        ids = lookup.run(["history_ids", "seen_ids"], {"history": row, "exclude": nothing})
        indices, scores = ranker.run(
            ["item_indices", "scores"], dict(zip(("history_ids", "seen_ids"), ids, strict=True))
        )
        (items,) = decode.run(["item_ids"], {"item_indices": indices})
        return items[0].tolist(), scores[0].tolist()

    return answer


def prepare(setup: dict[str, Any]) -> Callable[..., Sample]:
    """`setup`: {version: folder, histories: [[item id, ...], ...]}."""
    answer, histories = answerer(Path(setup["version"])), setup["histories"]

    def measure(in_flight: int, seconds: float, warm_s: float) -> Sample:
        latencies: list[float] = []
        clock = time.perf_counter
        start = clock() + warm_s
        end = start + seconds

        def sender(number: int) -> None:
            place = number * 7919
            while (began := clock()) < end:
                place += 1
                answer(histories[place % len(histories)])
                if began >= start:
                    latencies.append((clock() - began) * 1e3)

        threads = [threading.Thread(target=sender, args=(n,)) for n in range(in_flight)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Sample(np.array(latencies, dtype="<f4"), {}, clock() - start, len(latencies))

    return measure


if __name__ == "__main__":
    serve_orders(prepare)
