"""A graph's matrix products in 16 bits, all else in FP32: what autocast does to a model in torch.

So softmax, norms, masks with MASKED_SCORE (-1e9, beyond float16's 65504) and the scores of seen
items keep their type, whatever TensorRT fuses the casts into.
"""

from pathlib import Path
from typing import Any

import numpy as np

from recommender.onnx_session import graph_file
from serving.triton.engine.record import EngineError

_PRODUCTS = ("MatMul", "Gemm")


def lower_products(source: Path, target: Path, precision: str) -> None:
    """Write the graph at `source` to `target` with its products, and the tables that histories are
    looked up in, in `precision`: "fp16" or "bf16". Inputs and outputs are as before.

    Raises:
        EngineError: a weight does not fit into float16.
    """
    import onnx

    model = onnx.load(str(graph_file(source)))
    graph = _Lowered(model.graph, precision)
    for node in model.graph.node:
        graph.take(node)
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    read = {name for node in graph.nodes for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *graph.made.values()])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


class _Lowered:
    """Nodes of the new graph, in their order, and the constants that were made for them."""

    def __init__(self, graph: Any, precision: str) -> None:
        import ml_dtypes
        from onnx import TensorProto, helper

        self.helper, self.float32 = helper, TensorProto.FLOAT
        self.to = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
        self.type = np.float16 if precision == "fp16" else ml_dtypes.bfloat16
        self.precision = precision
        self.weights = {
            each.name: each for each in graph.initializer if each.data_type == self.float32
        }
        self.made: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.casts: dict[str, str] = {}

    def take(self, node: Any) -> None:
        """Add a node, lowered if it is a product or looks rows up in a table of floats."""
        looks_up = node.op_type == "Gather" and self._is_table(node.input[0])
        if node.op_type not in _PRODUCTS and not looks_up:
            self.nodes.append(node)
            return
        lowered = type(node)()
        lowered.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name and (place == 0 or not looks_up):
                lowered.input[place] = self._low(name)
        output, low = node.output[0], f"{node.output[0]}_{self.precision}"
        lowered.output[0] = low
        self.nodes.append(lowered)
        self.nodes.append(self._cast(low, output, self.float32))

    def _is_table(self, name: str) -> bool:
        return name in self.weights and len(self.weights[name].dims) == 2

    def _low(self, name: str) -> str:
        """A tensor in 16 bits: a constant's copy, or a cast, each made once."""
        if name in self.casts:
            return self.casts[name]
        low = f"{name}_as_{self.precision}"
        if name in self.weights:
            self.made[name] = self._constant(name, low)
        else:
            self.nodes.append(self._cast(name, low, self.to))
        self.casts[name] = low
        return low

    def _constant(self, name: str, low: str) -> Any:
        from onnx import numpy_helper

        values = numpy_helper.to_array(self.weights[name])
        with np.errstate(over="ignore"):
            lowered = values.astype(self.type)
        if not np.isfinite(lowered.astype(np.float32)).all():
            raise EngineError(
                f"{self.precision}: weight '{name}' has {np.abs(values).max():.4g}, beyond "
                f"{self.precision}: take bf16, which has the range of fp32, or fp32"
            )
        return numpy_helper.from_array(lowered, low)

    def _cast(self, source: str, target: str, to: int) -> Any:
        return self.helper.make_node("Cast", [source], [target], name=f"Cast {target}", to=to)
