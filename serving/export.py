"""A compressed ranker becomes a self-contained model version, proved equal at every hand-over."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import Check, require
from recommender.files import atomic_directory, fingerprint, read_json, sha256_file
from recommender.onnx_session import open_session
from recommender.progress import Progress, silent
from recommender.settings import ExportConfig
from recommender.string_graphs import build_decode, build_lookup
from serving.parity import check_on_triton, golden_answers
from serving.settings import TritonConfig
from serving.triton.repository import write_repository
from serving.version import ModelVersion, write_manifest

GATE = "export"


def write_version(
    target: Path,
    compressed: Path,
    windows: Path,
    config: ExportConfig,
    facts: Mapping[str, Any],
    triton: TritonConfig | None = None,
    progress: Progress = silent,
) -> ModelVersion:
    """Write the model version `target`, atomically, once every check has passed.

    Args:
        target: becomes a Triton model repository with kuberec.json and golden.json.
        compressed: ranker.onnx (served), ranker_fp32.onnx (for GPUs), student/ and ledger.json.
        windows: the golden requests are histories of its test split, and the odd ones: empty,
            unknown items only, with exclusions.
        config: number of golden requests, and the limits of the parity.
        facts: config, data_fingerprint, metrics, code: what kuberec.json says beside the rest.

    Returns:
        the version; its id is the same for the same data, config, code and weights.

    Raises:
        GateFailed: two hand-overs of the model answer differently.
    """
    ledger = read_json(compressed / "ledger.json")
    vocabulary = read_json(compressed / "student" / "vocabulary.json")
    ranker = compressed / "ranker.onnx"
    gpu_ranker = compressed / "ranker_fp32.onnx"
    weights = [sha256_file(ranker), sha256_file(gpu_ranker)]
    version = fingerprint([dict(facts), vocabulary, *weights])[:12]
    with (
        atomic_directory(Path(target)) as draft,
        tempfile.TemporaryDirectory(dir=Path(target).parent, prefix=".export-") as scratch,
    ):
        workdir = Path(scratch)
        progress(0, 4, "building the string graphs")
        lookup, decode = workdir / "lookup.onnx", workdir / "decode.onnx"
        shape = read_json(compressed / "student" / "model.json")["config"]
        lookup.write_bytes(
            build_lookup(vocabulary, shape["max_length"], config.max_seen).SerializeToString()
        )
        decode.write_bytes(build_decode(vocabulary, config.k).SerializeToString())
        repository = draft / "repository"
        write_repository(repository, lookup, ranker, decode, triton, gpu_ranker)
        requests = golden_requests(windows, config.golden_requests)
        golden = golden_answers(repository, requests)
        progress(1, 4, "comparing torch with ONNX Runtime")
        rows = _graph_parity(compressed, lookup, requests)
        progress(2, 4, "comparing ONNX Runtime with Triton")
        for way, found in check_on_triton(repository, workdir / "triton", golden).items():
            rows.append(
                {
                    "from": "ONNX Runtime INT8",
                    "to": f"Triton, {way}",
                    "requests": int(found["requests"]),
                    "max_abs_score_diff": found["max_abs_score_diff"],
                    "top_k_overlap": found["min_overlap"],
                }
            )
        checks = _checks(rows, config)
        require(GATE, checks)
        progress(3, 4, "sealing the version")
        everything = dict(facts) | {
            "ledger": ledger,
            "parity": rows,
            "checks": [check.as_dict() for check in checks],
        }
        write_manifest(repository, version, golden, everything)
        for path in list(repository.iterdir()):
            path.rename(draft / path.name)
        repository.rmdir()
    progress(4, 4, f"version {version}")
    return ModelVersion.model_validate(read_json(Path(target) / "kuberec.json"))


def golden_requests(windows: Path, count: int) -> list[dict[str, list[str]]]:
    """`count` requests: odd ones first, then histories of the test split, short to long."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(windows / "windows.parquet")
    table = table.filter(pc.equal(table["split"], "test")).sort_by("user_id")
    histories = sorted((row for row in table["history"].to_pylist() if row), key=len)
    odd: list[dict[str, list[str]]] = [
        {"history": [], "exclude": []},
        {"history": ["no such item"], "exclude": []},
        {"history": [], "exclude": histories[-1][-3:]},
        {"history": histories[0], "exclude": histories[-1][-3:]},
    ]
    places = np.linspace(0, len(histories) - 1, max(count - len(odd), 1)).astype(int)
    usual = [{"history": histories[place], "exclude": []} for place in places]
    return [*odd, *usual][: max(count, 1)]


def _graph_parity(
    compressed: Path, lookup: Path, requests: Sequence[Mapping[str, Sequence[str]]]
) -> list[dict[str, Any]]:
    """torch ↔ ONNX Runtime on the student, and FP32 ↔ INT8: what quantisation changes."""
    from recommender.export import rank, top_k_overlap, torch_onnx_parity
    from recommender.model import load_model

    session = open_session(lookup)
    inputs = [
        session.run(
            ["history_ids", "seen_ids"],
            {
                name: np.array(request[name], dtype=object).reshape(1, len(request[name]))
                for name in ("history", "exclude")
            },
        )
        for request in requests
    ]
    history_ids, seen_ids = (np.concatenate(parts) for parts in zip(*inputs, strict=True))
    full = compressed / "ranker_fp32.onnx"
    found = torch_onnx_parity(load_model(compressed / "student"), full, history_ids, seen_ids)
    (fp32, fp32_scores), (int8, int8_scores) = (
        rank(open_session(path), history_ids, seen_ids)
        for path in (full, compressed / "ranker.onnx")
    )
    common = {"requests": len(requests)}
    return [
        {"from": "torch", "to": "ONNX Runtime FP32"} | found | common,
        {
            "from": "ONNX Runtime FP32",
            "to": "ONNX Runtime INT8",
            "max_abs_score_diff": float(np.abs(fp32_scores - int8_scores).max()),
            "top_k_overlap": top_k_overlap(fp32, int8),
        }
        | common,
    ]


def _checks(rows: Sequence[Mapping[str, Any]], config: ExportConfig) -> list[Check]:
    """A hand-over must not change answers; quantisation may, within its own limit."""
    checks = []
    for row in rows:
        name = f"{row['from']} → {row['to']}"
        quantised = "INT8" in row["to"]
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
