"""A candidate's graphs: the exact one, and the one that serves."""

from dataclasses import dataclass
from pathlib import Path

from recommender.compression.calibration import (
    HELD_OUT,
    calibration_histories,
    clipped_shares,
    require_alike,
    require_covered,
)
from recommender.compression.candidate import Candidate, Work
from recommender.compression.check import quantised_two_stages
from recommender.compression.half import half_ranker
from recommender.compression.quantize import quantize_ranker
from recommender.errors import KuberecError
from recommender.export import export_ranker
from recommender.graph_trim import trim_file
from recommender.item_graphs import item_nodes, pack_items
from recommender.large_catalogue import export_two_stage, wants_two_stages
from recommender.onnx_session import copy_graph
from recommender.ranker_inputs import ranker_inputs, request_inputs
from recommender.settings import ExportConfig


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
        _write_two_stages(candidate, export, graphs.served)
        return graphs
    _require_one_file(candidate, graphs.exact)
    _write_served(candidate, work, graphs)
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

    Raises:
        KuberecError: the candidate is to be made smaller, and its exact graph is larger than that.
    """
    form = candidate.form
    smaller = form.quantised is not None or form.int8_items or candidate.model.item_codes
    if smaller and exact.is_dir():
        raise KuberecError(
            f"the ranker of {len(candidate.model.log_popularity) - 1:,} items in float32 is too "
            "large for one ONNX file, so that it can be neither quantised nor given a smaller item "
            "table: set export.scoring: two-stage and leave out quantise, or distil it to a "
            "smaller dim"
        )


def _is_half(candidate: Candidate) -> bool:
    step = candidate.form.quantised
    return step is not None and step.precision == "float16"


def _write_two_stages(candidate: Candidate, export: ExportConfig, path: Path) -> None:
    """Its items are bytes by `export.two_stage.int8`, whatever the candidate's form says of them.

    Raises:
        KuberecError: the form says more than that.
    """
    if candidate.form.quantised is not None:
        raise quantised_two_stages(export)
    export_two_stage(candidate.model, path, export)
    if export.trim_padding:
        trim_file(path)


def _write_served(candidate: Candidate, work: Work, graphs: Graphs) -> None:
    """All of the graph that serves but its items, which are the exact one's still."""
    model, export, step = candidate.model, work.export, candidate.form.quantised
    if step is None:
        copy_graph(graphs.exact, graphs.served)
        return
    packed = model.item_codes is not None or candidate.form.int8_items
    kept = item_nodes(graphs.exact) if packed else ()
    if step.precision == "float16":
        half_ranker(graphs.exact, graphs.served, kept)
        return
    samples, requests = [], []
    valid = work.splits["valid"]
    # Of little data all beginnings there are: how many are held out is nobody's setting.
    held = min(HELD_OUT, sum(map(len, valid.histories)))
    for split, count, seed in (
        (work.splits["train"], step.calibration_requests, step.seed),
        (valid, held, step.seed + 1),
    ):
        histories, times = calibration_histories(
            split.histories, count, seed, split.times_for(model.config)
        )
        samples.append(histories)
        length = model.config.max_length
        requests.append(ranker_inputs(histories, length, export.max_seen, times))
    popularity = model.log_popularity.numpy()
    require_alike(samples[0], samples[1], popularity, model.config.max_length)
    quantize_ranker(graphs.exact, graphs.served, step, *requests[0], kept=kept)
    held_out = request_inputs(*requests[1])
    require_covered(clipped_shares(graphs.exact, graphs.served, held_out), step)
