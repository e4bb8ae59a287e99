"""What every model version goes through, however its ranker was made: graphs, parity, the seal.

`export.py` makes one of a trained model, `refresh.py` one of a version and new items.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.agreement import Answers
from recommender.onnx_session import open_session
from recommender.string_graphs import build_decode, build_lookup
from serving.links import FP32, SERVED, golden_lists, link_row
from serving.parity import answers_of_triton, look_up
from serving.settings import TritonConfig
from serving.triton.repository import Shapes, write_repository
from serving.version import GoldenRequest, ModelVersion, write_manifest

GATE = "export"


def write_graphs(
    repository: Path,
    workdir: Path,
    vocabulary: Sequence[str],
    shapes: Shapes,
    ranker: Path,
    gpu_ranker: Path,
    triton: TritonConfig | None,
    golden: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the model repository around a ranker; the lookup graph's path, in `workdir`.

    `golden`: requests that warm a server up.
    """
    lookup, decode = workdir / "lookup.onnx", workdir / "decode.onnx"
    graph = build_lookup(vocabulary, shapes.max_length, shapes.max_seen, shapes.times)
    lookup.write_bytes(graph.SerializeToString())
    decode.write_bytes(build_decode(vocabulary, shapes.k).SerializeToString())
    write_repository(repository, lookup, ranker, decode, triton, gpu_ranker, golden)
    return lookup


def looked_up(lookup: Path, requests: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """(history_ids [B, L], seen_ids [B, M]) of requests, as the ranker gets them.

    Of a version that reads times event_times [B, L] are the third.
    """
    session = open_session(lookup)
    inputs = [look_up(session, request).values() for request in requests]
    return tuple(np.concatenate(parts) for parts in zip(*inputs, strict=True))


def served_row(fp32: Path, served: Path, *inputs: np.ndarray) -> dict[str, Any]:
    """What quantisation changes. `inputs` as `looked_up` gives them."""
    return link_row("served", FP32, SERVED, *(answers(path, *inputs) for path in (fp32, served)))


def answers(graph: Path, *inputs: np.ndarray) -> Answers:
    """A ranker's, by ONNX Runtime in this process."""
    from recommender.export import rank

    return Answers(*rank(open_session(graph), *inputs))


def triton_rows(
    repository: Path, workdir: Path, golden: Sequence[GoldenRequest]
) -> list[dict[str, Any]]:
    """ONNX Runtime in this process ↔ Triton, in each way that clients come."""
    expected = golden_lists(golden)
    return [
        link_row("triton", SERVED, f"Triton, {way}", expected, golden_lists(found))
        for way, found in answers_of_triton(repository, workdir, golden).items()
    ]


def seal(
    repository: Path,
    draft: Path,
    version: str,
    golden: Sequence[GoldenRequest],
    facts: dict[str, Any],
) -> ModelVersion:
    """Seal the repository, and make `draft`, the folder that it lies in, the version's own."""
    sealed = write_manifest(repository, version, golden, facts)
    for path in list(repository.iterdir()):
        path.rename(draft / path.name)
    repository.rmdir()
    return sealed
