"""INT8 weights for a ranker's ONNX graph, the item table included."""

import logging
from pathlib import Path

from recommender.files import atomic_file
from recommender.settings import QuantizationConfig


def quantize_ranker(source: Path, target: Path, config: QuantizationConfig) -> None:
    """Write `source` with INT8 weights to `target`, by ONNX Runtime's dynamic quantiser.

    Matrix products run in INT8, with the activations' scale found per request; the gathered item
    table is kept in INT8. Dynamic, because a user's history is all that varies: a calibrated
    static graph has the same bytes, and its fixed ranges cost quality on short histories.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

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
            quantize_dynamic(
                str(source),
                str(draft),
                op_types_to_quantize=["MatMul", "Gather"],
                nodes_to_exclude=small,
                weight_type=QuantType.QInt8,
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
            )
    finally:
        root.setLevel(level)
