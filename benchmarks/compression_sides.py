"""What stands beside the recipes: the full model run in other ways, nothing of it trained.

The graph as torch exports it reads padding too, which the full row's does not; onnxruntime's
dynamic quantiser on the full graph is what people do who do nothing else; torch, eager and
compiled, is how the model would serve without an export.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recommender.compression.kept import EXACT, Stage
from recommender.compression.ledger import measured_costs
from recommender.compression.quality import Gains, Judge, measure_gains
from recommender.compression.rankers import Answer
from recommender.compression.stages import some_requests
from recommender.errors import KuberecError
from recommender.export import Ranker
from recommender.files import atomic_file
from recommender.model import load_model
from recommender.sequences import Split
from recommender.settings import EvaluationConfig, ExportConfig, ModelConfig

EXPORTED, DYNAMIC = "exported as it is", "onnxruntime dynamic INT8"
EAGER, COMPILED = "torch eager FP32", "torch.compile FP32"
SIDES = (EXPORTED, DYNAMIC, EAGER, COMPILED)


@dataclass(frozen=True)
class Full:
    """The full model's folder, and its stage: the graph that compress() measured, and its gains."""

    model_dir: Path
    config: ModelConfig
    stage: Stage
    test: Split
    export: ExportConfig
    evaluation: EvaluationConfig
    gains: dict[Path, Gains] = field(default_factory=dict)  # of what has been asked already


def side(name: str, full: Full, scratch: Path) -> dict[str, Any]:
    """A row of the ledger for one of SIDES; times in turns with the full graph.

    torch.compile has the quality of eager, which is measured: it changes no weight.
    """
    place = _place(name, full, scratch)
    export, new = full.export, full.evaluation.new_user_events
    if place not in full.gains:
        full.gains[place] = measure_gains(
            place, full.test, full.config, export.k, export.max_seen, new
        )
    gains = full.gains[place]
    quality = Judge([], full.evaluation, full.stage.gains).quality(gains, full.stage.gains)
    opened = _compiled(full) if name == COMPILED else None
    requests = some_requests(full.test, full.config, export.max_seen)
    costs = measured_costs(place, full.stage.place, requests, requests, export.k, opened)
    return {"step": name, **quality, **costs, "seconds": 0, "processor_seconds": 0, "epochs": 0}


def _place(name: str, full: Full, scratch: Path) -> Path:
    if name == EXPORTED:
        return full.stage.folder / EXACT
    return _dynamic(full, scratch) if name == DYNAMIC else full.model_dir


def _dynamic(full: Full, scratch: Path) -> Path:
    """quantize_dynamic as its documentation shows it: INT8 weights of all that it knows."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not full.stage.place.is_file():
        raise KuberecError("ONNX has no graph of the full model: there is nothing to quantise")
    path = scratch / "dynamic.onnx"
    logging.disable(logging.WARNING)  # it advises a shape inference that torch's exporter has done
    try:
        with atomic_file(path) as draft:
            quantize_dynamic(str(full.stage.place), str(draft), weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    return path


def _compiled(full: Full) -> Answer:
    """Each batch's shape compiled for itself, which is the fastest that torch.compile gives."""
    import torch

    ranker = torch.compile(Ranker(load_model(full.model_dir), full.export.k).eval(), dynamic=False)

    def answer(*inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(ranker(*map(torch.from_numpy, inputs))[0].numpy())

    return answer
