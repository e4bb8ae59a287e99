"""An exported ranker with more items: rows appended to its item table, all else as it was.

The graph is not exported and not quantised again. Weights, scales and the known items' rows are the
same bytes, so that known items keep their scores, whatever joins them. Of an INT8 graph the new
rows take the scales that are there: the histories' side has one for the whole table, the scores'
side one a row (per channel), of which new rows bring their own. Where the table is kept once, as
`recommender.item_graphs` does, they become what it is made of: bytes and a scale of their own, or
the codes of the nearest centroids.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.files import atomic_file
from recommender.onnx_session import graph_file
from recommender.ranker_graph import BIAS, CODEBOOKS, CODES, INT8, ITEMS, SCALES, RankerGraph
from recommender.row_codes import COLUMNS, nearest_centroids, to_int8, whole_columns

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
    """Write the ranker `source`, of any precision, with the rows of `new` behind its own.

    Raises:
        KuberecError: it is a ranker that rows cannot be put behind.
        ValueError: it is no ranker of `recommender.export`.
    """
    import onnx

    model = _load(source)
    graph = RankerGraph(model.graph)
    scores, popularity = graph.scores(), graph.popularity()
    old = graph.array(popularity).shape[0]
    graph.append(popularity, new.log_popularity.astype(np.float32), axis=0)
    if CODES in graph.constants:
        _append_codes(graph, old, new.rows)
    elif INT8 in graph.constants:
        _append_bytes(graph, old, new.rows)
    else:
        _append_table(graph, graph.reader(), new.rows)
        _append_scores(graph, scores, new.rows)
    _append_bias(graph, scores, old, len(new.rows), new.boost)
    if ITEMS in graph.constants:
        _count(graph, old + len(new.rows))
    onnx.checker.check_model(model)
    with atomic_file(target) as draft:
        onnx.save(model, str(draft))


def takes_rows(source: Path) -> bool:
    """Whether `append_rows` can: not of a ranker of two stages, nor of one beyond one file."""
    try:
        RankerGraph(_load(source).graph).popularity()
    except KuberecError:
        return False
    return True


def table_size(source: Path) -> tuple[int, int]:
    """(items, D) of a ranker's table, without padding."""
    graph = RankerGraph(_load(source).graph)
    items = len(graph.array(graph.popularity())) - 1
    if CODES in graph.constants:
        return items, graph.array(CODES).shape[1] * graph.array(CODEBOOKS).shape[1]
    if INT8 in graph.constants:
        _, blocks, block = graph.array(INT8).shape
        return items, blocks * block
    return items, graph.array(graph.constant(graph.reader().input[0])).shape[1]


def least_popular(source: Path) -> float:
    """The lowest log popularity of a ranker's items."""
    graph = RankerGraph(_load(source).graph)
    return float(graph.array(graph.popularity())[1:].min())


def _load(source: Path) -> Any:
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(str(graph_file(source)), load_external_data=False)
    if any(uses_external_data(each) for each in model.graph.initializer):
        raise KuberecError(
            f"the ranker '{source}' is too large for one ONNX file, and rows are put behind those "
            "of one file alone: train again with the new items (`kuberec run CONFIG`)"
        )
    return model


def _append_codes(graph: RankerGraph, old: int, rows_nD: np.ndarray) -> None:
    """Of each piece of a row the nearest centroid."""
    codes_NM, books = graph.array(CODES), graph.array(CODEBOOKS)
    pieces, width = codes_NM.shape[1], books.shape[1]
    books_MCW = books.reshape(pieces, -1, width)
    codes_nM = nearest_centroids(rows_nD.astype(np.float32), books_MCW)
    codes_NM = np.concatenate([codes_NM[:old], codes_nM])
    graph.set(CODES, whole_columns(codes_NM) if ITEMS in graph.constants else codes_NM)


def _append_bytes(graph: RankerGraph, old: int, rows_nD: np.ndarray) -> None:
    for name, values in zip((INT8, SCALES), to_int8(rows_nD), strict=True):
        graph.set(name, whole_columns(np.concatenate([graph.array(name)[:old], values])))


def _count(graph: RankerGraph, items: int) -> None:
    """So many items, padding included, are scored by the product of bytes."""
    graph.set(ITEMS, np.array([items], np.int64))
    (product,) = (node for node in graph.graph.node if node.op_type == "MatMulNBits")
    (columns,) = (each for each in product.attribute if each.name == "N")
    columns.i = items + -items % COLUMNS


def _append_table(graph: RankerGraph, reader: Any, rows_nD: np.ndarray) -> None:
    """The table that histories are looked up in: one scale for all of it."""
    tensor = reader.input[0]
    name, quantised = graph.constant(tensor), graph.scale(tensor)
    if quantised is None:
        graph.append(name, _as_there(rows_nD, graph.array(name)), axis=0)
        return
    scale, zero = (graph.array(each) for each in quantised)
    graph.append(name, _quantise(rows_nD, scale, zero, graph.array(name).dtype), axis=0)


def _append_scores(graph: RankerGraph, product: Any, rows_nD: np.ndarray) -> None:
    """The transposed table that scores are made with: one scale, or one a column."""
    tensor = product.input[1]
    name, quantised = graph.constant(tensor), graph.scale(tensor)
    if quantised is None:
        graph.append(name, _as_there(rows_nD.T, graph.array(name)), axis=1)
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


def _append_bias(graph: RankerGraph, product: Any, old: int, new: int, boost: float) -> None:
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


def _as_there(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """In the type of a table in floating point: float32, or float16.

    Raises:
        KuberecError: a number is beyond float16.
    """
    with np.errstate(over="ignore"):
        found = values.astype(there.dtype)
    if not np.isfinite(found).all():
        raise KuberecError(
            f"a new item's row has {np.abs(values).max():.4g}, which the ranker's item table, in "
            f"{there.dtype}, cannot hold: train again with the new items (`kuberec run CONFIG`)"
        )
    return found


def _quantise(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, kind: Any) -> np.ndarray:
    """As ONNX's QuantizeLinear: rounded half to even, and cut off at the type's ends."""
    codes = np.rint(values / scale) + zero.astype(np.int32)
    limits = np.iinfo(kind)
    return np.clip(codes, limits.min, limits.max).astype(kind)
