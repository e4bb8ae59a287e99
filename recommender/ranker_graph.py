"""The parts of a ranker's ONNX graph that have a place for every item."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from recommender.errors import KuberecError

TWO_STAGES = "popular_scores"  # an initializer of `large_catalogue` alone
BIAS = "new_item_bias"  # the initializer that a boost of new items is kept in
# Items as a byte a number: uint8 [N+1, D / B, B] in blocks of B, and float32 [N+1, 1].
# Zeros are behind them up to whole columns of the product; ITEMS [1] is N+1.
INT8, SCALES, ITEMS = "item_int8", "item_scales", "item_count"
# Items as codes: uint8 [N+1, M]; the centroids of all codebooks, float32 [M * C, D / M].
CODES, CODEBOOKS = "item_codes", "item_codebooks"


class RankerGraph:
    """An onnx GraphProto of `recommender.export`, as it is or as later steps made it."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.constants = {each.name: each for each in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output}

    def reader(self) -> Any:
        """The node that looks histories up in the table.

        Raises:
            ValueError: it is no ranker of `recommender.export`.
        """
        found = [
            node
            for node in self.graph.node
            if node.op_type == "Gather" and node.input[1].startswith("history_ids")
        ]
        if len(found) != 1:
            raise ValueError("the graph has no item table that histories are looked up in")
        return found[0]

    def scores(self) -> Any:
        """The node that makes the scores of all items: a product with the table, or what cuts off
        those of the zeros behind it.

        Raises:
            KuberecError: what is behind them is float16 too.
            ValueError: it is no ranker of `recommender.export`.
        """
        scores = self.made_by[self._choice().input[1]]
        if scores.op_type == "Cast":
            raise _half_throughout()
        if scores.op_type == "Add" and BIAS in scores.input:  # a boost of an earlier call
            scores = self.made_by[scores.input[0]]
        if scores.op_type not in ("MatMul", "Gemm", "Slice"):
            raise ValueError(f"the graph's scores come from {scores.op_type}, not from a product")
        return scores

    def popularity(self) -> str:
        """The name of the initializer with the items' log popularity.

        Raises:
            KuberecError: it is a ranker of two stages, which has no place for every item, or one
                that is float16 behind the scores too.
            ValueError: it is no ranker of `recommender.export`.
        """
        return str(self._choice().input[2])

    def _choice(self) -> Any:
        """The node that chooses between both, by whether a history has a known item."""
        if TWO_STAGES in self.constants:
            raise KuberecError(
                "the ranker scores in two stages (export.scoring): its items lie in cells, and "
                "none can be put behind them: train again (`kuberec run CONFIG`), or serve with "
                "export.scoring: exact"
            )
        found = [
            node
            for node in self.graph.node
            if node.op_type == "Where" and node.input[2].endswith("log_popularity")
        ]
        if not found and any(name.endswith("log_popularity_cast_to_fp32") for name in self.made_by):
            raise _half_throughout()
        if len(found) != 1:
            raise ValueError("the graph has no item table that histories are looked up in")
        return found[0]

    def constant(self, tensor: str) -> str:
        """The initializer behind a tensor: itself, or what is dequantised or cast to it."""
        return tensor if tensor in self.constants else self.made_by[tensor].input[0]

    def scale(self, tensor: str) -> tuple[str, str] | None:
        """The names of a tensor's scale and zero point; None where it is in floating point."""
        if tensor in self.constants or self.made_by[tensor].op_type == "Cast":
            return None
        _, scale, zero = self.made_by[tensor].input
        return scale, zero

    def array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def append(self, name: str, values: np.ndarray, axis: int) -> None:
        """Behind those of an initializer."""
        self.set(name, np.concatenate([self.array(name), values], axis=axis))

    def set(self, name: str, values: np.ndarray) -> None:
        """An initializer's."""
        from onnx import numpy_helper

        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def replace(self, node: Any, others: Iterable[Any]) -> None:
        """`others` in the place of a node."""
        place = list(self.graph.node).index(node)
        self.graph.node.remove(node)
        for offset, other in enumerate(others):
            self.graph.node.insert(place + offset, other)

    def drop_unread(self) -> None:
        """Remove the nodes and constants that nothing reads any more."""
        outputs = {each.name for each in self.graph.output}
        while True:
            read = outputs.union(*(node.input for node in self.graph.node))
            unread = [node for node in self.graph.node if not read.intersection(node.output)]
            if not unread:
                break
            for node in unread:
                self.graph.node.remove(node)
        for constant in [each for each in self.graph.initializer if each.name not in read]:
            self.graph.initializer.remove(constant)


def _half_throughout() -> KuberecError:
    return KuberecError(
        "the ranker was quantised to float16 by an earlier release, which rounded what is behind "
        "the scores too: train again (`kuberec run CONFIG`)"
    )
