"""An exported ranker with more items: rows appended to its item table, all else as it was.

The graph is not exported and not quantised again. Weights, scales and the known items' rows are the
same bytes, so that known items keep their scores, whatever joins them. Of an INT8 graph the new
rows take the scales that are there: the histories' side has one for the whole table, the scores'
side one a row (per channel), of which new rows bring their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recommender.files import atomic_file

BIAS = "new_item_bias"  # the initializer that a boost is kept in
_BIASED = "new_item_biased"


@dataclass(frozen=True)
class NewRows:
    """Attributes:
    rows: float32 [n, D].
    log_popularity: float32 [n], their scores where a history has no known item.
    boost: added to their scores where it has.
    """

    rows: np.ndarray
    log_popularity: np.ndarray
    boost: float = 0.0


def append_rows(source: Path, target: Path, new: NewRows) -> None:
    """Write the ranker `source`, FP32 or INT8, with the rows of `new` behind its own to `target`.

    Raises:
        ValueError: it is no ranker of `recommender.export`.
    """
    import onnx

    model = onnx.load(str(source))
    graph = _Graph(model.graph)
    table, scores, popularity = graph.find()
    old = graph.array(popularity).shape[0]
    graph.append(popularity, new.log_popularity.astype(np.float32), axis=0)
    _append_table(graph, table, new.rows)
    _append_scores(graph, scores, new.rows)
    _append_bias(graph, scores, old, len(new.rows), new.boost)
    onnx.checker.check_model(model)
    with atomic_file(target) as draft:
        onnx.save(model, str(draft))


def table_size(source: Path) -> tuple[int, int]:
    """(items, D) of a ranker's table, without padding."""
    import onnx

    graph = _Graph(onnx.load(str(source)).graph)
    table, _, _ = graph.find()
    rows, width = graph.array(graph.constant(table.input[0])).shape
    return rows - 1, width


def least_popular(source: Path) -> float:
    """The lowest log popularity of a ranker's items."""
    import onnx

    graph = _Graph(onnx.load(str(source)).graph)
    return float(graph.array(graph.find()[2])[1:].min())


class _Graph:
    """The parts of a ranker's ONNX graph that have a place for every item."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.constants = {each.name: each for each in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output}

    def find(self) -> tuple[Any, Any, str]:
        """The node that reads the table, the one that makes the scores, log popularity's name."""
        readers = [n for n in self.graph.node if n.op_type == "Gather" and "history_ids" in n.input]
        choices = [
            node
            for node in self.graph.node
            if node.op_type == "Where" and node.input[2].endswith("log_popularity")
        ]
        if len(readers) != 1 or len(choices) != 1:
            raise ValueError("the graph has no item table that histories are looked up in")
        scores = self.made_by[choices[0].input[1]]
        if scores.op_type == "Add":  # a boost of an earlier call
            scores = self.made_by[scores.input[0]]
        if scores.op_type != "MatMul":
            raise ValueError(f"the graph's scores come from {scores.op_type}, not from a product")
        return readers[0], scores, choices[0].input[2]

    def constant(self, tensor: str) -> str:
        """The initializer behind a tensor: itself, or what is dequantised to it."""
        return tensor if tensor in self.constants else self.made_by[tensor].input[0]

    def scale(self, tensor: str) -> tuple[str, str] | None:
        """The names of a tensor's scale and zero point; None where it is in floating point."""
        if tensor in self.constants:
            return None
        _, scale, zero = self.made_by[tensor].input
        return scale, zero

    def array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.constants[name]))

    def append(self, name: str, values: np.ndarray, axis: int) -> None:
        from onnx import numpy_helper

        grown = np.concatenate([self.array(name), values], axis=axis)
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(grown), name))


def _append_table(graph: _Graph, reader: Any, rows_nD: np.ndarray) -> None:
    """The table that histories are looked up in: one scale for all of it."""
    tensor = reader.input[0]
    name, quantised = graph.constant(tensor), graph.scale(tensor)
    if quantised is None:
        graph.append(name, rows_nD.astype(np.float32), axis=0)
        return
    scale, zero = (graph.array(each) for each in quantised)
    graph.append(name, _quantise(rows_nD, scale, zero, graph.array(name).dtype), axis=0)


def _append_scores(graph: _Graph, product: Any, rows_nD: np.ndarray) -> None:
    """The transposed table that scores are made with: one scale, or one a column."""
    tensor = product.input[1]
    name, quantised = graph.constant(tensor), graph.scale(tensor)
    if quantised is None:
        graph.append(name, rows_nD.T.astype(np.float32), axis=1)
        return
    scale, zero = (graph.array(each) for each in quantised)
    columns_Dn = rows_nD.T
    if scale.ndim:
        # The widest code in use tells how many bits there are (7 with reduce_range).
        widest = int(np.abs(graph.array(name).astype(np.int32)).max())
        scale = np.maximum(np.abs(columns_Dn).max(axis=0) / widest, 1e-12).astype(np.float32)
        zero = np.zeros(len(scale), zero.dtype)
        graph.append(quantised[0], scale, axis=0)
        graph.append(quantised[1], zero, axis=0)
    graph.append(name, _quantise(columns_Dn, scale, zero, graph.array(name).dtype), axis=1)


def _append_bias(graph: _Graph, product: Any, old: int, new: int, boost: float) -> None:
    """Nothing is added where no item has a boost: the graph keeps its nodes."""
    from onnx import helper, numpy_helper

    added = np.full(new, boost, np.float32)
    if BIAS in graph.constants:
        graph.append(BIAS, added, axis=0)
        return
    if not boost:
        return
    bias = np.concatenate([np.zeros(old, np.float32), added])
    graph.graph.initializer.append(numpy_helper.from_array(bias, BIAS))
    scores = product.output[0]
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            if name == scores:
                node.input[place] = _BIASED
    place = list(graph.graph.node).index(product) + 1
    graph.graph.node.insert(place, helper.make_node("Add", [scores, BIAS], [_BIASED], name=BIAS))


def _quantise(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, kind: Any) -> np.ndarray:
    """As ONNX's QuantizeLinear: rounded half to even, and cut off at the type's ends."""
    codes = np.rint(values / scale) + zero.astype(np.int32)
    limits = np.iinfo(kind)
    return np.clip(codes, limits.min, limits.max).astype(kind)
