"""INT8 weights and activations for a ranker's ONNX graph, the item table included."""

import logging
from pathlib import Path

import numpy as np

from recommender.files import atomic_file
from recommender.settings import QuantizationConfig

CALIBRATION_BATCH = 32


def quantize_ranker(
    source: Path,
    target: Path,
    config: QuantizationConfig,
    history_ids: np.ndarray,
    seen_ids: np.ndarray,
) -> None:
    """Write the INT8 version of `source` to `target`, by ONNX Runtime's static quantiser.

    Static, because the ranges of a dynamic one come from all requests that a server happens to
    batch: a user's answer would depend on the neighbours' (measured: top-100 overlap down to 0.97
    between a request alone and in a batch). The products' results stay in float: 256 levels for
    the scores of a whole catalogue cost a tenth of the top 10.

    Args:
        history_ids: int64 [n, L], seen_ids: int64 [n, S]: requests that give the activations'
            ranges, as the graph takes them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Requests(CalibrationDataReader):
        def __init__(self) -> None:
            self.starts = iter(range(0, len(history_ids), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            start = next(self.starts, None)
            if start is None:
                return None
            rows = slice(start, start + CALIBRATION_BATCH)
            return {"history_ids": history_ids[rows], "seen_ids": seen_ids[rows]}

    # Of the gathered constants only the item table is large; the attention's few biases stay exact.
    small = [
        node.name
        for node in onnx.load(str(source)).graph.node
        if node.op_type == "Gather" and "table" not in node.input
    ]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a shape inference that torch's exporter has done
    try:
        with atomic_file(target) as draft:
            quantize_static(
                str(source),
                str(draft),
                Requests(),
                op_types_to_quantize=["MatMul", "Gather"],
                nodes_to_exclude=small,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
                extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
            )
    finally:
        root.setLevel(level)


def calibration_histories(histories: list[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    """`count` beginnings of histories, short and long alike: what a growing user looks like."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(histories), size=count)
    return [histories[row][: rng.integers(1, len(histories[row]) + 1)] for row in rows]
