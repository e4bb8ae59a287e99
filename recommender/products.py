"""A graph's matrix products in 16 bits, all else in FP32: what autocast does to a model in torch.

So softmax, norms, masks with MASKED_SCORE (-1e9, beyond float16's 65504) and the scores of seen
items keep their type, whatever TensorRT fuses the casts into.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.onnx_session import graph_file

_PRODUCTS = ("MatMul", "Gemm")


def lower_products(
    source: Path,
    target: Path,
    precision: str,
    kept: Sequence[str] = (),
    instead: str = "take bf16, which has the range of fp32, or fp32",
) -> None:
    """Write the graph at `source` to `target` with its products, and the tables that histories are
    looked up in, in `precision`: "fp16" or "bf16". Inputs and outputs are as before.

    The last product, which makes the scores, has its weights in 16 bits and is summed up in FP32:
    11 bits of a score, or 8, would make ties of neighbours. What is 16 bits already is left as it
    is, so that a graph may come through here twice.

    Args:
        kept: names of nodes that stay as they are.
        instead: what to do where a weight does not fit.

    Raises:
        KuberecError: a weight does not fit into float16.
    """
    import onnx

    model = onnx.load(str(graph_file(source)))
    graph = _Lowered(model.graph, precision, kept, instead)
    for node in model.graph.node:
        graph.take(node)
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    read = {name for node in graph.nodes for name in node.input}
    constants = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*constants, *graph.made.values()])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def has_half_products(source: Path) -> bool:
    """Whether a graph is the one that `quantise` with precision: float16 makes."""
    import onnx

    graph = onnx.load(str(graph_file(source)), load_external_data=False).graph
    return any(each.data_type == onnx.TensorProto.FLOAT16 for each in graph.initializer)


class _Lowered:
    """Nodes of the new graph, in their order, and the constants that were made for them."""

    def __init__(self, graph: Any, precision: str, kept: Sequence[str], instead: str) -> None:
        import ml_dtypes
        from onnx import TensorProto, helper

        self.helper, self.float32 = helper, TensorProto.FLOAT
        self.to = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
        self.type = np.float16 if precision == "fp16" else ml_dtypes.bfloat16
        self.precision, self.kept, self.instead = precision, {*kept}, instead
        self.weights = {
            each.name: each for each in graph.initializer if each.data_type == self.float32
        }
        self.low = {each.name for each in graph.initializer if each.data_type == self.to}
        self.low |= {node.output[0] for node in graph.node if self._lowers(node)}
        products = [node.output[0] for node in graph.node if node.op_type in _PRODUCTS]
        self.scores = products[-1] if products else None
        self.made: dict[str, Any] = {}
        self.nodes: list[Any] = []
        self.casts: dict[str, str] = {}

    def take(self, node: Any) -> None:
        """Add a node, lowered if it is a product or looks rows up in a table of floats."""
        looks_up = node.op_type == "Gather" and self._is_table(node.input[0])
        is_product = node.op_type in _PRODUCTS and not self.low.issuperset(filter(None, node.input))
        if node.name in self.kept or not (is_product or looks_up):
            self.nodes.append(node)
            return
        lowered = type(node)()
        lowered.CopyFrom(node)
        if node.output[0] == self.scores:
            for place, name in enumerate(node.input):
                if name in self.weights:
                    lowered.input[place] = self._wide(self._low(name))
            self.nodes.append(lowered)
            return
        for place, name in enumerate(node.input):
            if name and (place == 0 or not looks_up):
                lowered.input[place] = self._low(name)
        output, low = node.output[0], f"{node.output[0]}_{self.precision}"
        lowered.output[0] = low
        self.nodes.append(lowered)
        self.nodes.append(self._cast(low, output, self.float32))

    def _lowers(self, node: Any) -> bool:
        return node.op_type == "Cast" and any(
            each.name == "to" and each.i == self.to for each in node.attribute
        )

    def _is_table(self, name: str) -> bool:
        return name in self.weights and len(self.weights[name].dims) == 2

    def _low(self, name: str) -> str:
        """A tensor in 16 bits: itself, a constant's copy, or a cast, each made once."""
        if name in self.low:
            return name
        if name in self.casts:
            return self.casts[name]
        low = f"{name}_as_{self.precision}"
        if name in self.weights:
            self.made[name] = self._constant(name, low)
        else:
            self.nodes.append(self._cast(name, low, self.to))
        self.casts[name] = low
        return low

    def _wide(self, low: str) -> str:
        """A 16-bit tensor in FP32."""
        wide = f"{low}_wide"
        self.nodes.append(self._cast(low, wide, self.float32))
        return wide

    def _constant(self, name: str, low: str) -> Any:
        from onnx import numpy_helper

        values = numpy_helper.to_array(self.weights[name])
        with np.errstate(over="ignore"):
            lowered = values.astype(self.type)
        if not np.isfinite(lowered.astype(np.float32)).all():
            raise KuberecError(
                f"{self.precision}: weight '{name}' has {np.abs(values).max():.4g}, beyond "
                f"{self.precision}: {self.instead}"
            )
        return numpy_helper.from_array(lowered, low)

    def _cast(self, source: str, target: str, to: int) -> Any:
        return self.helper.make_node("Cast", [source], [target], name=f"Cast {target}", to=to)
