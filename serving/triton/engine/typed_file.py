"""The one file that TensorRT's parser is given, with all weights inside: may they be so many?"""

from math import prod
from pathlib import Path

from recommender.onnx_session import graph_file
from serving.triton.engine.record import EngineError

LARGEST = 2**31 - 1  # bytes of a protobuf message
_SMALLER = {"fp32": "take fp16 or bf16, which are half as large, or distil"}


def require_one_file(graph: Path, precision: str) -> None:
    """Raises EngineError where a graph's weights, in `precision`, are more than one file holds."""
    import onnx
    from onnx import helper

    found = 0
    for each in onnx.load(str(graph_file(graph)), load_external_data=False).graph.initializer:
        halved = each.data_type == onnx.TensorProto.FLOAT and precision in ("fp16", "bf16")
        width = helper.tensor_dtype_to_np_dtype(each.data_type).itemsize
        found += prod(each.dims) * (2 if halved else width)
    if found <= LARGEST:
        return
    raise EngineError(
        f"{precision}: the ranker's weights are {found / 2**30:.2f} GiB, and the one ONNX file "
        f"that TensorRT's parser is given holds {LARGEST / 2**30:.2f} GiB: "
        f"{_SMALLER.get(precision, 'distil')} the model to a smaller dim"
    )
