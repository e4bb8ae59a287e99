"""A compressed ranker becomes a self-contained model version, proved equal at every hand-over."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.files import atomic_directory, content_fingerprint, fingerprint, read_json
from recommender.opsets import needs_newer
from recommender.products import has_half_products
from recommender.progress import Progress, silent
from recommender.settings import ExportConfig
from recommender.string_graphs import HISTORY_TIMES
from serving.handover import (
    GATE,
    answers,
    looked_up,
    seal,
    served_row,
    triton_rows,
    write_graphs,
)
from serving.item_map import export_item_map
from serving.links import FP32, TORCH, link_row, require_links
from serving.parity import golden_answers
from serving.settings import TritonConfig
from serving.triton.repository import Shapes
from serving.version import ModelVersion


def write_version(
    target: Path,
    compressed: Path,
    windows: Path,
    vectors: Path,
    config: ExportConfig,
    facts: Mapping[str, Any],
    triton: TritonConfig | None = None,
    progress: Progress = silent,
    notes: Callable[[str], Mapping[str, Any]] = lambda version: {},
) -> ModelVersion:
    """Write the model version `target`, atomically, once every check has passed.

    Args:
        target: becomes a Triton model repository with kuberec.json and golden.json.
        compressed: ranker.onnx (served; in float16 also on GPUs), ranker_fp32.onnx (else for
            GPUs), student/ and ledger.json.
        windows: the golden requests are histories of its test split, and the odd ones: empty,
            unknown items only, with exclusions. Its validation split says how much a new item's
            score is raised.
        vectors: item_vectors/, that the model was trained with: how texts become vectors travels
            with the version.
        config: number of golden requests, and the limits of the parity.
        facts: config, data_fingerprint, metrics, code: what kuberec.json says beside the rest.
        notes: called with the version's id once every check has passed; what it returns goes into
            kuberec.json, but not into the id.

    Returns:
        the version; its id is the same for the same data, config, code and weights.

    Raises:
        GateFailed: two hand-overs of the model answer differently.
    """
    ledger = read_json(compressed / "ledger.json")
    vocabulary = read_json(compressed / "student" / "vocabulary.json")
    ranker = compressed / "ranker.onnx"
    gpu_ranker = graph_for_gpus(compressed)
    with (
        atomic_directory(Path(target)) as draft,
        tempfile.TemporaryDirectory(dir=Path(target).parent, prefix=".export-") as scratch,
    ):
        workdir = Path(scratch)
        progress(0, 4, "building the string graphs")
        shape = read_json(compressed / "student" / "model.json")["config"]
        times = shape.get("time", "none") != "none"
        repository = draft / "repository"
        requests = golden_requests(windows, config.golden_requests, times)
        lookup = write_graphs(
            repository,
            workdir,
            vocabulary,
            Shapes(shape["max_length"], config.max_seen, config.k, times),
            ranker,
            gpu_ranker,
            triton,
            requests,
        )
        maps = export_item_map(compressed / "student", ranker, windows, vectors, repository)
        weights = [content_fingerprint(path) for path in (ranker, gpu_ranker, *maps)]
        version = fingerprint([dict(facts), vocabulary, *weights])[:12]
        golden = golden_answers(repository, requests)
        progress(1, 4, "comparing torch with ONNX Runtime")
        rows = _graph_rows(compressed, lookup, [each.asked() for each in golden])
        progress(2, 4, "comparing ONNX Runtime with Triton")
        rows += triton_rows(repository, workdir / "triton", golden)
        checks = require_links(GATE, rows, config)
        progress(3, 4, "sealing the version")
        everything = dict(facts) | {
            "ledger": ledger,
            "parity": rows,
            "checks": [check.as_dict() for check in checks],
            "items": {"trained": len(vocabulary), "added": [], "parent": None},
            **notes(version),
        }
        sealed = seal(repository, draft, version, golden, everything)
    progress(4, 4, "; ".join(filter(None, [f"version {version}", needs_newer(ranker)])))
    sealed.directory = Path(target)
    return sealed


def graph_for_gpus(compressed: Path) -> Path:
    """The float32 ranker; of float16, which is for GPUs, the very one that was measured."""
    served = compressed / "ranker.onnx"
    return served if has_half_products(served) else compressed / "ranker_fp32.onnx"


def golden_requests(windows: Path, count: int, times: bool = False) -> list[dict[str, list[Any]]]:
    """`count` requests: odd ones first, then histories of the test split, short to long.

    Args:
        times: of a version that reads them: give the times of the histories too, but to the first
            of the usual ones, as a client that knows none.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(windows / "windows.parquet")
    table = table.filter(pc.equal(table["split"], "test")).sort_by("user_id")
    columns = table["history"], table["history_times" if times else "history"]
    pairs = zip(*(column.to_pylist() for column in columns), strict=True)
    known = sorted((pair for pair in pairs if pair[0]), key=lambda pair: len(pair[0]))
    histories = [history for history, _ in known]

    def usual(place: int, told: bool = times) -> dict[str, list[Any]]:
        request: dict[str, list[Any]] = {"history": histories[place], "exclude": []}
        when = {HISTORY_TIMES: [each // 1_000_000 for each in known[place][1]]} if told else {}
        return request | when

    odd: list[dict[str, list[Any]]] = [
        {"history": [], "exclude": []},
        {"history": ["no such item"], "exclude": []},
        {"history": [], "exclude": histories[-1][-3:]},
        usual(0) | {"exclude": histories[-1][-3:]},
    ]
    places = np.linspace(0, len(histories) - 1, max(count - len(odd), 1)).astype(int)
    rest = [usual(int(place), told=times and number > 0) for number, place in enumerate(places)]
    return [*odd, *rest][: max(count, 1)]


def _graph_rows(
    compressed: Path, lookup: Path, requests: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """torch ↔ ONNX Runtime on the student, and FP32 ↔ what serves: what quantisation changes."""
    from recommender.export import torch_answers
    from recommender.model import load_model

    ids = looked_up(lookup, requests)
    exact, served = compressed / "ranker_fp32.onnx", compressed / "ranker.onnx"
    found = answers(exact, *ids)
    torch = torch_answers(load_model(compressed / "student"), found.ids_BK.shape[1], *ids)
    return [link_row("onnx", TORCH, FP32, found, torch), served_row(exact, served, *ids)]
