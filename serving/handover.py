"""What every model version goes through, however its ranker was made: graphs, parity, the seal.

`export.py` makes one of a trained model, `refresh.py` one of a version and new items.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import Check
from recommender.onnx_session import open_session
from recommender.settings import ExportConfig
from recommender.string_graphs import build_decode, build_lookup
from serving.parity import check_on_triton, look_up
from serving.settings import TritonConfig
from serving.triton.repository import Shapes, write_repository
from serving.version import GoldenRequest, ModelVersion, write_manifest

GATE = "export"
FP32, INT8 = "ONNX Runtime FP32", "ONNX Runtime INT8"


def write_graphs(
    repository: Path,
    workdir: Path,
    vocabulary: Sequence[str],
    shapes: Shapes,
    ranker: Path,
    gpu_ranker: Path,
    triton: TritonConfig | None,
) -> Path:
    """Write the model repository around a ranker; the lookup graph's path, in `workdir`."""
    lookup, decode = workdir / "lookup.onnx", workdir / "decode.onnx"
    graph = build_lookup(vocabulary, shapes.max_length, shapes.max_seen, shapes.times)
    lookup.write_bytes(graph.SerializeToString())
    decode.write_bytes(build_decode(vocabulary, shapes.k).SerializeToString())
    write_repository(repository, lookup, ranker, decode, triton, gpu_ranker)
    return lookup


def looked_up(lookup: Path, requests: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, ...]:
    """(history_ids [B, L], seen_ids [B, M]) of requests, as the ranker gets them.

    Of a version that reads times event_times [B, L] are the third.
    """
    session = open_session(lookup)
    inputs = [look_up(session, request).values() for request in requests]
    return tuple(np.concatenate(parts) for parts in zip(*inputs, strict=True))


def quantisation_row(fp32: Path, int8: Path, *inputs: np.ndarray) -> dict[str, Any]:
    """FP32 ↔ INT8: what quantisation changes. `inputs` as `looked_up` gives them."""
    from recommender.export import rank, top_k_overlap

    (exact, exact_scores), (small, small_scores) = (
        rank(open_session(path), *inputs) for path in (fp32, int8)
    )
    return {
        "from": FP32,
        "to": INT8,
        "max_abs_score_diff": float(np.abs(exact_scores - small_scores).max()),
        "top_k_overlap": top_k_overlap(exact, small),
        "requests": len(inputs[0]),
    }


def triton_rows(
    repository: Path, workdir: Path, golden: Sequence[GoldenRequest]
) -> list[dict[str, Any]]:
    """ONNX Runtime in this process ↔ Triton, in each way that clients come."""
    return [
        {
            "from": INT8,
            "to": f"Triton, {way}",
            "requests": int(found["requests"]),
            "max_abs_score_diff": found["max_abs_score_diff"],
            "top_k_overlap": found["min_overlap"],
        }
        for way, found in check_on_triton(repository, workdir, golden).items()
    ]


def checks_of(rows: Sequence[Mapping[str, Any]], config: ExportConfig) -> list[Check]:
    """A hand-over must not change answers; quantisation may, within its own limit."""
    checks = []
    for row in rows:
        name = f"{row['from']} → {row['to']}"
        quantised = row["to"] == INT8
        floor = config.min_quantized_overlap if quantised else config.min_overlap
        overlap = row["top_k_overlap"]
        checks.append(Check(f"{name}: top-K overlap", overlap, f">= {floor:g}", overlap >= floor))
        if not quantised:
            difference, limit = row["max_abs_score_diff"], config.max_score_difference
            checks.append(
                Check(
                    f"{name}: largest score difference",
                    difference,
                    f"<= {limit:g}",
                    difference <= limit,
                )
            )
    return checks


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
