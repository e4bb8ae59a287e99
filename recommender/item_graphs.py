"""The item table in a ranker's graph, kept once and small: as codes, as bytes, or as both.

An exported ranker has its table twice, for the histories that are read and, transposed, for the
scores. Here both uses read one of these:

- codes: ONNX Runtime makes the table of them when it opens the graph (constant folding): a small
  file, and as fast and as large in memory as the table. Scores by tables of partial products
  (PQTopK, Petrov, Macdonald and Tonellotto 2024, arXiv:2408.09992) need a kernel of their own: by
  ONNX's Gather they took 4 to 7 times as long (docs/DECISIONS.md).
- bytes: int8 rows, one scale each, and ONNX Runtime's product of 8 bits (MatMulNBits), which
  quantises each hidden state by itself, so that an answer does not depend on its batch.
- both: the bytes are made of the codes when the graph is opened.

Shapes: N+1 items, D width, B numbers in a block of the product, M pieces, C centroids.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recommender.files import atomic_file
from recommender.ranker_graph import CODEBOOKS, CODES, INT8, ITEMS, SCALES, RankerGraph
from recommender.row_codes import (
    COLUMNS,
    SMALLEST_SCALE,
    WIDEST,
    ZERO,
    block_of,
    to_int8,
    whole_columns,
)

if TYPE_CHECKING:
    from recommender.item_codes import ItemCodes

_TABLE = "item_table"


def item_nodes(source: Path) -> list[str]:
    """The names of the nodes that `pack_items` replaces: what quantises a graph leaves them."""
    import onnx

    graph = RankerGraph(onnx.load(str(source)).graph)
    return [graph.reader().name, graph.scores().name]


def pack_items(
    path: Path, codes: "ItemCodes | None", int8: bool = False, unit_length: bool = False
) -> None:
    """Write the ranker at `path` anew with its item table in small; its other nodes are as before.

    Args:
        path: of an exported ranker whose reader and product are float32.
        codes: of the model that was exported; None: its table is kept in float32, or by `int8`.
        int8: bytes and scales.
        unit_length: rows made of codes are brought to length 1.
    """
    import onnx
    from onnx import helper

    model = onnx.load(str(path))
    graph = RankerGraph(model.graph)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    reader, scores = graph.reader(), graph.scores()
    table_ND = graph.array(reader.input[0])
    rows, width = table_ND.shape
    table = _Nodes(graph)
    if codes is not None:
        _table_of_codes(table, codes, width, unit_length, int8)
        if int8:
            _bytes_of_table(table, width, opset)
    elif int8:
        quantised, scales = to_int8(table_ND)
        table.constant(INT8, whole_columns(quantised))
        table.constant(SCALES, whole_columns(scales))
    read, product = _Nodes(graph), _Nodes(graph)
    if int8:
        _read_bytes(read, reader)
        _score_bytes(product, scores, rows, width)
        if not any(each.domain == "com.microsoft" for each in model.opset_import):
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    else:
        read.node("Gather", [_TABLE, reader.input[1]], reader.output[0])
        product.node("Gemm", [scores.input[0], _TABLE], scores.output[0], transB=1)
    graph.replace(reader, read.nodes)
    graph.replace(scores, product.nodes)
    for place, node in enumerate(table.nodes):
        model.graph.node.insert(place, node)
    graph.drop_unread()
    with atomic_file(path) as draft:
        onnx.save(model, str(draft))


class _Nodes:
    """Nodes and constants on their way into a graph; named after what they make."""

    def __init__(self, graph: RankerGraph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        made = helper.make_node(kind, inputs, [output], name=f"{kind} {output}", **attributes)
        self.nodes.append(made)
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        if name not in self.graph.constants:
            made = numpy_helper.from_array(values, name)
            self.graph.graph.initializer.append(made)
            self.graph.constants[name] = self.graph.graph.initializer[-1]
        return name


def _table_of_codes(
    table: _Nodes, codes: "ItemCodes", width: int, unit_length: bool, int8: bool
) -> None:
    from onnx import TensorProto

    books_MCW = codes.codebooks.detach().cpu().numpy()
    pieces, centroids, _ = books_MCW.shape
    first_M = np.arange(pieces, dtype=np.int32)[None] * np.int32(centroids)
    codes_NM = codes.codes.cpu().numpy()
    table.constant(CODES, whole_columns(codes_NM) if int8 else codes_NM)
    table.constant(CODEBOOKS, books_MCW.reshape(pieces * centroids, -1))
    table.node("Cast", [CODES], "item_codes_wide", to=TensorProto.INT32)
    first = table.constant("item_codebooks_first", first_M)
    table.node("Add", ["item_codes_wide", first], "item_centroids")
    table.node("Gather", [CODEBOOKS, "item_centroids"], "item_pieces")
    shape = table.constant("item_table_shape", np.array([-1, width], np.int64))
    made = "item_table_of_any_length" if unit_length else _TABLE
    table.node("Reshape", ["item_pieces", shape], made)
    if unit_length:
        table.node("LpNormalization", [made], _TABLE, axis=1, p=2)


def _bytes_of_table(table: _Nodes, width: int, opset: int) -> None:
    """`to_int8` in the graph."""
    from onnx import TensorProto

    table.node("Abs", [_TABLE], "item_sizes")
    if opset < 18:
        table.node("ReduceMax", ["item_sizes"], "item_widest", axes=[1], keepdims=1)
    else:
        axes = table.constant("item_widest_axes", np.array([1], np.int64))
        table.node("ReduceMax", ["item_sizes", axes], "item_widest", keepdims=1)
    widest = table.constant("item_widest_code", np.array(WIDEST, np.float32))
    smallest = table.constant("item_smallest_scale", np.array(SMALLEST_SCALE, np.float32))
    zero = table.constant("item_zero_float", np.array(ZERO, np.float32))
    blocks = np.array([-1, width // block_of(width), block_of(width)], np.int64)
    table.node("Div", ["item_widest", widest], "item_scales_any")
    table.node("Max", ["item_scales_any", smallest], SCALES)
    table.node("Div", [_TABLE, SCALES], "item_scaled")
    table.node("Round", ["item_scaled"], "item_rounded")
    table.node("Add", ["item_rounded", zero], "item_shifted")
    table.node("Cast", ["item_shifted"], "item_bytes", to=TensorProto.UINT8)
    shape = table.constant("item_block_shape", blocks)
    table.node("Reshape", ["item_bytes", shape], INT8)


def _read_bytes(read: _Nodes, reader: Any) -> None:
    from onnx import TensorProto

    ids, rows = reader.input[1], reader.output[0]
    zero = read.constant("item_zero_float", np.array(ZERO, np.float32))
    shape = read.constant("history_shape", np.array([0, 0, -1], np.int64))
    read.node("Gather", [INT8, ids], "history_blocks")
    read.node("Reshape", ["history_blocks", shape], "history_bytes")
    read.node("Cast", ["history_bytes"], "history_shifted", to=TensorProto.FLOAT)
    read.node("Sub", ["history_shifted", zero], "history_codes")
    read.node("Gather", [SCALES, ids], "history_scales")
    read.node("Mul", ["history_codes", "history_scales"], rows)


def _score_bytes(product: _Nodes, scores: Any, rows: int, width: int) -> None:
    block = block_of(width)
    scales = SCALES
    if width > block:  # the product wants one scale a block; the row's own is there once
        shape = product.constant("item_scales_shape", np.array([1, width // block], np.int64))
        scales = product.node("Expand", [SCALES, shape], "item_block_scales")
    product.node(
        "MatMulNBits",
        [scores.input[0], INT8, scales],
        "item_products",
        domain="com.microsoft",
        K=width,
        N=rows + -rows % COLUMNS,
        bits=8,
        block_size=block,
        accuracy_level=4,
    )
    first = product.constant("item_first", np.array([0], np.int64))
    count = product.constant(ITEMS, np.array([rows], np.int64))
    axis = product.constant("item_axis", np.array([-1], np.int64))
    product.node("Slice", ["item_products", first, count, axis], scores.output[0])
