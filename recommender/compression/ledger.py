"""A row of the ledger: what a candidate is worth and costs, measured on what would serve."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recommender.compression.latency import BLOCK, LOOPS, Latency, in_turns
from recommender.compression.memory import memory_growth
from recommender.compression.rankers import (
    ONNX,
    Answer,
    open_ranker,
    runtime_of,
    torch_threads,
)
from recommender.onnx_session import graph_file

MODEL_FILE = "model.safetensors"


def measured_how() -> str:
    """What the rows' figures are, for their reader."""
    one, many = LOOPS[1], LOOPS[32]
    return (
        "Each row is the whole ranker as it would serve: history and seen items in, top K out. "
        "Quality: test users, full ranking, seen items masked; 95 % intervals by BCa bootstrap "
        "over users, differences paired. parameters: elements of the graph's constants. "
        "memory_bytes: highest growth of a fresh process's resident memory that loads the ranker "
        "and answers batches of 1 and 32. Times: one thread, CPU; the full ranker and the row's "
        f"in turns of {BLOCK} calls within one loop, the same requests, {one.least} to "
        f"{one.calls} calls at batch 1 and {many.least} to {many.calls} at batch 32; times_faster "
        "is the ratio of that loop's medians. seconds and processor_seconds: the step and the "
        "writing of its graph, all threads. Runtime torch: ONNX has no graph for it; its bytes "
        "and parameters are the saved model's. "
        f"{platform.processor() or platform.machine()}; onnxruntime {version('onnxruntime')}, "
        f"torch {version('torch')}."
    )


def measured_costs(
    place: Path,
    full: Path,
    inputs: Sequence[np.ndarray],
    full_inputs: Sequence[np.ndarray],
    k: int,
    opened: Answer | None = None,
) -> dict[str, Any]:
    """Size, memory and times of the ranker at `place`, beside the full one; JSON-ready.

    Args:
        inputs, full_inputs: the same requests, as either takes them.
        k: of the answers.
        opened: answers in its stead, if another way of running it is measured; its memory is None.
    """
    row: dict[str, Any] = {"runtime": runtime_of(place), **size(place)}
    row["memory_bytes"] = memory_growth(place, inputs, k) if opened is None else None
    row["times_smaller"] = size(full)["bytes"] / row["bytes"]
    with torch_threads(place, 1), torch_threads(full, 1):
        rankers = [opened or open_ranker(place, k)]
        requests = [inputs]
        if opened or place != full:
            rankers, requests = [open_ranker(full, k), *rankers], [full_inputs, inputs]
        for batch in LOOPS:
            found = in_turns(rankers, requests, batch)
            row |= _times(found[-1], found[0])
    return row


def _times(own: Latency, full: Latency) -> dict[str, float]:
    """Of one batch; throughput is that of the largest."""
    row = {
        named("p50_ms", own.batch): own.p50_ms,
        named("p99_ms", own.batch): own.p99_ms,
        named("calls", own.batch): len(own.seconds),
        named("full_p50_ms", own.batch): full.p50_ms,
        named("times_faster", own.batch): full.p50_ms / own.p50_ms,
    }
    if own.batch == max(LOOPS):
        row["answers_per_s"] = own.answers_per_s
        row["times_throughput"] = own.answers_per_s / full.answers_per_s
    return row


def named(figure: str, batch: int) -> str:
    """The key of a figure: batch 1 has none of its own."""
    return figure if batch == 1 else f"{figure}_batch_{batch}"


def size(place: Path) -> dict[str, int]:
    """bytes on disk and parameters of a graph, or of a saved model."""
    if runtime_of(place) == ONNX:
        return _graph_size(Path(place))
    from safetensors import safe_open

    path = Path(place) / MODEL_FILE
    with safe_open(path, framework="numpy") as content:
        shapes = [content.get_slice(name).get_shape() for name in content.keys()]  # noqa: SIM118
    return {"bytes": path.stat().st_size, "parameters": sum(map(_elements, shapes))}


def _graph_size(path: Path) -> dict[str, int]:
    """With what a graph keeps in files beside it, as those of more than 2 GB do."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    file = graph_file(path)
    constants = onnx.load(str(file), load_external_data=False).graph.initializer
    beside = {ExternalDataInfo(each).location for each in constants if uses_external_data(each)}
    files = [file, *(file.parent / name for name in sorted(beside))]
    return {
        "bytes": sum(each.stat().st_size for each in files),
        "parameters": sum(_elements(each.dims) for each in constants),
    }


def _elements(shape: Sequence[int]) -> int:
    return int(np.prod([int(side) for side in shape], dtype=np.int64))
