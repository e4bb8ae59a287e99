"""The graph that TensorRT gets: every type is in it, since TensorRT chooses none any more.

TensorRT 11 has strongly typed networks alone: the builder's flags for FP16, BF16 and INT8 and the
constraints of layers are gone, and TensorRT 10 has the same behind a flag (NVIDIA, "Migrating from
TensorRT 10.x to 11.x", docs.nvidia.com/deeplearning/tensorrt/latest/api/migration). So what is 16
bits and what stays FP32 is written into the graph (recommender.products), and is so in every
release.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recommender.onnx_session import graph_file
from recommender.products import lower_products
from serving.triton.engine.plan import EnginePlan
from serving.triton.engine.record import EngineError
from serving.triton.engine.typed_file import require_one_file

_QUANTISED = ("QuantizeLinear", "DequantizeLinear")


def write_typed(plan: EnginePlan, target: Path) -> list[str]:
    """Write the plan's graph in its precision to the file `target`; the names of its 2:4 weights.

    Raises:
        EngineError: int8 of a version that has no such graph, or one that TensorRT does not take;
            or the graph is too large for one file.
        KuberecError: a weight does not fit into fp16.
    """
    if plan.precision == "int8":
        require_symmetric(plan.graph)
        require_one_file(plan.graph, plan.precision)
        _copy(plan.graph, target)
    else:
        source = _folded(plan.graph, target.with_name(f"{target.stem}-folded.onnx"))
        require_one_file(source, plan.precision)
        if plan.precision == "fp32":
            _copy(source, target)
        else:
            lower_products(source, target, plan.precision)
    return sparse_weights(target)


def require_symmetric(graph: Path) -> None:
    """Raise EngineError unless a graph's 8-bit numbers are as TensorRT has them.

    Explicitly quantised, by QuantizeLinear and DequantizeLinear, to signed bytes around 0 (NVIDIA,
    "Working with Quantized Types": "symmetric quantization ... signed INT8").
    """
    import onnx

    model = onnx.load(str(graph_file(graph)))
    nodes = [node for node in model.graph.node if node.op_type in _QUANTISED]
    foreign = [node for node in model.graph.node if node.domain not in ("", "ai.onnx")]
    if foreign:
        listed = ", ".join(sorted({f"{node.domain}.{node.op_type}" for node in foreign}))
        raise EngineError(
            f"int8: '{graph}' has operators of ONNX Runtime's own ({listed}), which TensorRT does "
            "not know: take fp16, or export a version whose items are not packed as bytes"
        )
    if not nodes:
        raise EngineError(
            f"int8: '{graph}' is not quantised: there is no QuantizeLinear in it. Take fp32, fp16 "
            "or bf16; the step `quantise` is no way out, its INT8 is asymmetric, for CPUs"
        )
    constants = dict(_constants(model.graph))
    wrong = [
        f"{node.name or node.output[0]} ({_zero_of(node, constants)})"
        for node in nodes
        if _zero_of(node, constants) != "int8, 0"
    ]
    if wrong:
        listed = "\n  ".join(wrong[:10] + ([f"and {len(wrong) - 10} more"] if wrong[10:] else []))
        raise EngineError(
            f"int8: TensorRT quantises symmetrically, to int8 with zero point 0; these nodes of "
            f"'{graph}' do not (type, zero point):\n  {listed}\nThe asymmetric graph serves on "
            "CPUs; on a GPU take fp16, bf16 or fp32 of the float graph that travels beside it"
        )


def sparse_weights(graph: Path) -> list[str]:
    """Names of the products' weights of which two of four neighbours are 0, as `sparsify` leaves
    them: along the axis that is summed over, where sparse tensor cores read them."""
    import onnx
    import torch

    from recommender.compression.sparsity import is_two_of_four

    model = onnx.load(str(graph_file(graph)))
    constants = dict(_constants(model.graph))
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        name, turned = node.input[1], node.op_type == "Gemm" and _attribute(node, "transB")
        while name in made_by and made_by[name].op_type in ("Cast", "Transpose", *_QUANTISED):
            turned ^= made_by[name].op_type == "Transpose"
            name = made_by[name].input[0]
        weight = constants.get(name)
        if weight is None or weight.ndim != 2:
            continue
        weight_OI = np.ascontiguousarray(weight if turned else weight.T).astype(np.float32)
        if is_two_of_four(torch.from_numpy(weight_OI)):
            found.append(name)
    return found


def _zero_of(node: Any, constants: dict[str, np.ndarray]) -> str:
    """A node's type and zero point; uint8 where it has none and no type, as ONNX says."""
    if len(node.input) < 3 or not node.input[2]:
        of_weights = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        return f"{of_weights.dtype if of_weights is not None else 'uint8'}, 0"
    zero = constants.get(node.input[2])
    if zero is None:
        return "not a constant"
    values = np.unique(zero.astype(np.int64))
    return f"{zero.dtype}, {', '.join(str(value) for value in values[:3])}"


def _constants(graph: Any) -> Iterator[tuple[str, np.ndarray]]:
    from onnx import numpy_helper

    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], numpy_helper.to_array(attribute.t)


def _attribute(node: Any, name: str) -> bool:
    return any(each.name == name and bool(each.i) for each in node.attribute)


def _folded(graph: Path, target: Path) -> Path:
    """The graph with an item table that is kept as codes made whole, by ONNX Runtime.

    TensorRT has uint8 at inputs and outputs alone (C++ API, DataType::kUINT8), and an engine would
    hold the whole table in any case.
    """
    import onnx

    model = onnx.load(str(graph_file(graph)), load_external_data=False)
    if all(each.data_type != onnx.TensorProto.UINT8 for each in model.graph.initializer):
        return graph
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    # The table made whole may be more than one protobuf holds; what is left of it in 16 bits not.
    beside = f"{target.stem}.bin"
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", beside
    )
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(graph_file(graph)), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return target


def _copy(source: Path, target: Path) -> None:
    """With weights that lie beside it inside: TensorRT's parser gets one file."""
    import onnx

    onnx.save(onnx.load(str(graph_file(source))), str(target))
