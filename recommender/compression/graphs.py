"""A candidate's graphs: the exact one, and the one that serves."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from recommender.compression.candidate import Candidate, Work
from recommender.compression.quantize import calibration_histories, quantize_ranker
from recommender.export import export_ranker
from recommender.ranker_inputs import ranker_inputs


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
    export_ranker(model, graphs.exact, export.k, export.max_seen)
    step = candidate.form.quantised
    if step is None:
        shutil.copyfile(graphs.exact, graphs.served)
        return graphs
    train = work.splits["train"]
    histories, times = calibration_histories(
        train.histories, step.calibration_requests, step.seed, train.times_for(model.config)
    )
    inputs = ranker_inputs(histories, model.config.max_length, export.max_seen, times)
    quantize_ranker(graphs.exact, graphs.served, step, *inputs)
    return graphs
