"""A model version with items that came after its training: the same weights, a larger item index.

The ranker's table gets their rows (recommender.new_items), `lookup` and `decode` their ids; nothing
is trained, exported from torch or quantised again, so that known items keep their scores. What the
version is made of is all in the one before it, so that a refreshed one can be refreshed again.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.agreement import TOP
from recommender.errors import Check, KuberecError
from recommender.files import atomic_directory, fingerprint, read_json, sha256_file
from recommender.new_items import ItemMap
from recommender.products import has_half_products
from recommender.progress import Progress, silent
from recommender.ranker_rows import NewRows, append_rows, least_popular
from recommender.settings import CompressionConfig, ExportConfig
from recommender.string_graphs import vocabulary_of
from recommender.text.vectors import DESCRIPTION, VECTORS
from serving.handover import (
    GATE,
    answers,
    looked_up,
    seal,
    served_row,
    triton_rows,
    write_graphs,
)
from serving.item_map import item_map_files, load_item_map
from serving.links import FP32, SERVED, require_links
from serving.parity import golden_answers
from serving.settings import TritonConfig
from serving.triton.repository import GPU_GRAPH, Shapes, graph_path
from serving.version import MANIFEST, ModelVersion

NEW_REQUESTS = 4  # golden ones that begin with a new item
_OWN = {*ModelVersion.model_fields} - {"directory"}  # what a manifest says of itself


def known_items(version: ModelVersion) -> list[str]:
    """The items that a version can recommend, in the order of their indices."""
    return vocabulary_of(graph_path(version.directory, "lookup"))


def refresh_version(
    target: Path,
    parent: ModelVersion,
    vectors: Path,
    *,
    boost: float | None = None,
    export: ExportConfig | None = None,
    progress: Progress = silent,
) -> ModelVersion:
    """Write `parent` with the items of `vectors` to `target`, atomically, once all checks passed.

    Args:
        parent: verified.
        vectors: item_vectors/ of the new items alone, made with the parent's text settings.
        boost: added to the new items' scores; by default what the export found (calibrated).
        export: the parity's limits; by default those of the parent's export.

    Returns:
        the version; its id is the same for the same parent, items and boost.

    Raises:
        KuberecError: the parent cannot be refreshed; the vectors are of another encoder.
        GateFailed: known items' answers, or two hand-overs, differ.
    """
    manifest = read_json(parent.directory / MANIFEST)
    sections = manifest["config"]
    config = export or ExportConfig.model_validate(sections.get("export", {}))
    item_map = load_item_map(parent, sections)
    known = known_items(parent)
    lineage = manifest.get("items") or {"trained": len(known), "added": []}
    added = set(lineage["added"])
    items, new = new_rows(item_map, vectors, set(known), graph_path(parent.directory, "ranker"))
    if boost is None:
        boost = (item_map.about.get("calibrated") or {}).get("boost", 0.0)
    new = NewRows(new.rows, new.log_popularity, boost)
    vocabulary = [*known, *items]
    triton = TritonConfig.model_validate(sections.get("serving", {}).get("triton", {}))
    with (
        atomic_directory(Path(target)) as draft,
        tempfile.TemporaryDirectory(dir=Path(target).parent, prefix=".refresh-") as scratch,
    ):
        workdir = Path(scratch)
        progress(0, 4, f"{len(items):,} rows behind {len(known):,}")
        before = {
            SERVED: graph_path(parent.directory, "ranker"),
            FP32: graph_path(parent.directory, "ranker", GPU_GRAPH),
        }
        after = {SERVED: workdir / "ranker.onnx", FP32: workdir / "ranker_fp32.onnx"}
        if has_half_products(before[FP32]):  # one graph for both: no float32 travels with it
            del before[FP32]
            after[FP32] = after[SERVED]
        for kind, graph in before.items():
            append_rows(graph, after[kind], new)
        repository = draft / "repository"
        shapes = Shapes(parent.max_length, parent.max_seen, parent.k, parent.times)
        asked = [
            each.asked()
            for each in parent.golden()
            if not added.issuperset(each.history) or not each.history  # an earlier refresh's
        ]
        requests = asked + [{"history": [item], "exclude": []} for item in items[:NEW_REQUESTS]]
        lookup = write_graphs(
            repository, workdir, vocabulary, shapes, after[SERVED], after[FP32], triton, requests
        )
        for path in item_map_files(parent.directory):
            shutil.copyfile(path, repository / path.name)
        weights = [sha256_file(path) for path in after.values()]
        version = fingerprint([parent.version, vocabulary, *weights])[:12]
        golden = golden_answers(repository, requests)
        progress(1, 4, "comparing known items with what they were")
        as_before = looked_up(graph_path(parent.directory, "lookup"), asked)
        rows = [
            _known_row(f"{kind} of {parent.version}", graph, after[kind], *as_before)
            for kind, graph in before.items()
        ]
        if FP32 in before:
            rows.append(served_row(after[FP32], after[SERVED], *looked_up(lookup, requests)))
        progress(2, 4, "comparing ONNX Runtime with Triton")
        rows += triton_rows(repository, workdir / "triton", golden)
        size = _size_check(after[SERVED], sections)
        checks = require_links(GATE, rows, config, [size])
        progress(3, 4, "sealing the version")
        facts = {key: value for key, value in manifest.items() if key not in _OWN} | {
            "parity": rows,
            "checks": [check.as_dict() for check in checks],
            "items": lineage
            | {"added": [*lineage["added"], *items], "parent": parent.version, "boost": boost},
        }
        sealed = seal(repository, draft, version, golden, facts)
    progress(4, 4, f"version {version}")
    sealed.directory = Path(target)
    return sealed


def new_rows(
    item_map: ItemMap, vectors: Path, known: set[str], ranker: Path
) -> tuple[list[str], NewRows]:
    """The items of item_vectors/ that are not known, and their rows of `ranker`.

    Raises:
        KuberecError: none is new, or they were encoded in another way than the trained ones.
    """
    import pyarrow.parquet as pq

    _check_parts(item_map, read_json(vectors / DESCRIPTION)["parts"])
    table = pq.read_table(vectors / VECTORS)
    items = table["item_id"].to_pylist()
    if not items or known.intersection(items):
        raise KuberecError("a version is refreshed with items that it does not know, and some")
    texts = np.stack(table["vector"].to_pylist()).astype(np.float32)
    images = [
        None if each is None else np.asarray(each, np.float32)
        for each in (table["image"].to_pylist() if "image" in table.column_names else [])
    ]
    popularity = np.full(len(items), least_popular(ranker), np.float32)
    return items, NewRows(item_map.rows(texts, images), popularity)


def _check_parts(item_map: ItemMap, found: Sequence[dict[str, Any]]) -> None:
    """Vectors of another encoder mean something else, also where they are as wide."""
    for expected, part in zip(item_map.about["parts"], found, strict=True):
        for key in ("name", "dim", "fingerprint", "columns"):
            if expected.get(key) != part.get(key):
                raise KuberecError(
                    f"the texts of new items were read by another {expected['name']} than the "
                    f"model was trained with ({key} {part.get(key)}, not {expected.get(key)}): its "
                    "weights, text.max_tokens or precision have changed. Put the encoder "
                    f"'{expected.get('encoder', '')}' back as it was, or train again "
                    "(`kuberec run CONFIG`)"
                )


def _known_row(one: str, before: Path, after: Path, *inputs: np.ndarray) -> dict[str, Any]:
    """A ranker ↔ the same with more items, on known items: their scores, and who of them comes.

    A row as `link_row`'s, with the limits of a hand-over that changes nothing.
    """
    from recommender.ranker_rows import table_size

    old, _ = table_size(before)
    first, second = answers(before, *inputs), answers(after, *inputs)
    common: list[list[bool]] = []  # of each list the known items, best first
    differences = [0.0]
    for old_ids, old_scores, ids, scores in zip(*first, *second, strict=True):
        was = dict(zip(old_ids.tolist(), old_scores.tolist(), strict=True))
        known = [
            pair for pair in zip(ids.tolist(), scores.tolist(), strict=True) if 0 < pair[0] <= old
        ]
        common.append([item in was for item, _ in known])
        differences += [abs(was[item] - score) for item, score in known if item in was]

    def share(cut: int) -> float:
        kept = [each for row in common for each in row[:cut]]
        return float(np.mean(kept)) if kept else 1.0

    return {
        "link": "onnx",
        "from": one,
        "to": "the same with new items, on known ones",
        "requests": len(inputs[0]),
        "top_k_overlap": share(first.ids_BK.shape[1]),
        "top_10_overlap": share(TOP),
        "max_abs_score_diff": max(differences),
        "mean_abs_score_diff": float(np.mean(differences)),
    }


def _size_check(ranker: Path, sections: dict[str, Any]) -> Check:
    limit = CompressionConfig.model_validate(sections.get("compression", {})).max_bytes
    size = ranker.stat().st_size
    return Check("ranker.onnx: bytes", size, f"<= {limit:,}", size <= limit)
