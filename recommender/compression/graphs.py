"""A candidate's graphs: the exact one, and the one that serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from recommender.compression.calibration import (
    calibration_requests,
    clipped_shares,
    require_covered,
)
from recommender.compression.candidate import Candidate, Work
from recommender.compression.half import half_ranker
from recommender.compression.quantize import quantize_ranker
from recommender.errors import KuberecError
from recommender.export import export_ranker
from recommender.graph_trim import trim_file
from recommender.item_graphs import item_nodes, pack_items
from recommender.large_catalogue import (
    export_two_stage,
    nodes_behind_the_blocks,
    wants_two_stages,
)
from recommender.onnx_session import copy_graph
from recommender.ranker_inputs import ranker_inputs, request_inputs


@dataclass(frozen=True)
class Graphs:
    """Attributes:
    exact: float32, for GPUs and to compare with.
    served: in the candidate's form; a copy of `exact` where that is float32.
    """

    exact: Path
    served: Path


def write_graphs(candidate: Candidate, work: Work, folder: Path) -> Graphs:
    """Write ranker_fp32.onnx and ranker.onnx into an existing folder."""
    graphs = Graphs(folder / "ranker_fp32.onnx", folder / "ranker.onnx")
    model, export = candidate.model, work.export
    export_ranker(model, graphs.exact, export.k, export.max_seen, export.opset)
    if wants_two_stages(export, len(model.log_popularity) - 1):
        _write_two_stages(candidate, work, graphs.served)
        return graphs
    _require_one_file(candidate, graphs.exact)
    packed = model.item_codes is not None or candidate.form.int8_items
    _write_served(
        candidate, work, graphs.exact, graphs.served, item_nodes(graphs.exact) if packed else ()
    )
    codes, unit_length = model.item_codes, model.config.similarity == "cosine"
    if codes is not None:
        pack_items(graphs.exact, codes, unit_length=unit_length)
    if codes is not None or candidate.form.int8_items:
        pack_items(graphs.served, codes, candidate.form.int8_items, unit_length)
    if export.trim_padding and not _is_half(candidate):  # float16 is for GPUs, which plan shapes
        trim_file(graphs.served)
    return graphs


def _require_one_file(candidate: Candidate, exact: Path) -> None:
    """What makes a graph smaller reads it whole, which protobuf does up to 2 GiB.

    `catalogue.check_catalogue` has refused before what the items alone make too large.

    Raises:
        KuberecError: the candidate is to be made smaller, and its exact graph is larger than that.
    """
    form = candidate.form
    smaller = form.quantised is not None or form.int8_items or candidate.model.item_codes
    if smaller and exact.is_dir():
        raise KuberecError(
            f"the ranker of {len(candidate.model.log_popularity) - 1:,} items in float32 is too "
            "large for one ONNX file, so that it can be neither quantised nor given a smaller item "
            "table: set export.scoring: two-stage, leaving out quantise-items (its items are bytes "
            "by themselves) and float16, or distil it to a smaller dim"
        )


def _is_half(candidate: Candidate) -> bool:
    step = candidate.form.quantised
    return step is not None and step.precision == "float16"


def _write_two_stages(candidate: Candidate, work: Work, path: Path) -> None:
    """Its items are bytes by `export.two_stage.int8`; see `check.check_scoring`."""
    with TemporaryDirectory(dir=path.parent, prefix=".two-stage-") as scratch:
        floating = Path(scratch) / path.name
        export_two_stage(candidate.model, floating, work.export)
        if floating.is_dir() and candidate.form.quantised is not None:
            raise KuberecError(
                "the ranker of two stages is too large for one ONNX file, so that it cannot be "
                "quantised: set export.two_stage.int8, or leave the step 'quantise' out"
            )
        _write_served(candidate, work, floating, path, nodes_behind_the_blocks(floating))
    if work.export.trim_padding:
        trim_file(path, seen=True)


def _write_served(
    candidate: Candidate, work: Work, source: Path, target: Path, kept: Sequence[str]
) -> None:
    """`source` in the candidate's form, but for the nodes in `kept`, which stay as they are."""
    model, export, step = candidate.model, work.export, candidate.form.quantised
    if step is None:
        copy_graph(source, target)
        return
    if step.precision == "float16":
        half_ranker(source, target, kept)
        return
    config = model.config
    calibration, held_out = (
        ranker_inputs(histories, config.max_length, export.max_seen, times)
        for histories, times in calibration_requests(
            work.splits, step, config, model.log_popularity.numpy()
        )
    )
    quantize_ranker(source, target, step, *calibration, kept=kept)
    require_covered(clipped_shares(source, target, request_inputs(*held_out)), step)
