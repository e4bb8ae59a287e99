"""ONNX graphs around the ranker: item ids in, item ids out.

The vocabulary travels inside a model version: `lookup` turns strings into the ranker's
fixed-width indices, `decode` turns its answer back. Index 0 is padding and unknown; item i of the
vocabulary has index i + 1.

`exclude` is optional by the only way that Triton's C++ ONNX Runtime backend knows: a graph input
with a default (an overridable initializer) in a model without Triton-side batching. The graphs
therefore carry the batch dimension themselves.

Times of events are optional in the same way. They travel beside their ids: what drops an unknown
id drops its time.

Shapes: B batch, H history as sent, E exclude as sent, L `max_length`, M `max_seen`, K answers.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

# Old enough for every Triton image that is still maintained, and all that these graphs need.
_IR_VERSION, _OPSET, _ML_OPSET = 9, 17, 2
# Times as they are sent, [B, H], and beside the ranker's history_ids, [B, L]; seconds since 1970.
HISTORY_TIMES, EVENT_TIMES = "history_times", "event_times"


def check_vocabulary(vocabulary: Sequence[str]) -> None:
    """Raise ValueError unless the item ids are non-empty, distinct strings ("" means padding)."""
    if not vocabulary:
        raise ValueError("the vocabulary is empty: a model version needs at least one item")
    if "" in vocabulary:
        raise ValueError('the vocabulary holds an empty item id, but "" means padding in a request')
    (item, count), *_ = Counter(vocabulary).most_common(1)
    if count > 1:
        raise ValueError(f"item id {item!r} is in the vocabulary {count} times")


def build_lookup(
    vocabulary: Sequence[str], max_length: int, max_seen: int, times: bool = False
) -> Any:
    """Strings to indices: history [B, H], exclude [B, E] -> history_ids [B, L], seen_ids [B, M].

    Both outputs keep only known ids in their order, the latest ones if there are too many, with 0
    on the left. `seen_ids` is the history followed by `exclude`, so that explicit exclusions are
    the last to be dropped. `exclude` may be left out. Outputs are int64; returns a ModelProto.

    With `times` also history_times int64 [B, H] -> event_times [B, L], of the same events as
    `history_ids`, 0 where that is 0. They may be left out: then all are 0, unknown.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    check_vocabulary(vocabulary)
    if max_length < 1 or max_seen < 1:
        raise ValueError(f"max_length {max_length} and max_seen {max_seen} must be at least 1")
    node = helper.make_node

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value, dtype=np.int64), name)

    def encode(strings: str, ids: str) -> Any:
        return node(
            "LabelEncoder",
            [strings],
            [ids],
            domain="ai.onnx.ml",
            keys_strings=list(vocabulary),
            values_int64s=list(range(1, len(vocabulary) + 1)),
            default_int64=0,
        )

    nodes = [
        encode("history", "history_raw"),
        encode("exclude", "exclude_raw"),
        # An absent `exclude` is one row of width 0: adding a column of zeros makes it B rows.
        node("Shape", ["history"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "one"], ["column_shape"], axis=0),
        node("ConstantOfShape", ["column_shape"], ["column"], value=constant("zero_value", [0])),
        node("Add", ["exclude_raw", "column"], ["exclude_rows"]),
        node("Concat", ["history_raw", "exclude_rows"], ["seen_raw"], axis=1),
        *_compact(node, "history_raw", "history_ids", "max_length"),
        *_compact(node, "seen_raw", "seen_ids", "max_seen"),
    ]
    constants = [
        constant("zero", 0),
        constant("one", [1]),
        constant("step", 1),
        constant("last", [-1]),
        constant("before_first", [np.iinfo(np.int64).min]),
        constant("max_length", [max_length]),
        constant("max_seen", [max_seen]),
    ]
    info = helper.make_tensor_value_info
    inputs = [
        info("history", TensorProto.STRING, ["B", "H"]),
        # A batch dimension of its own: the default has one row whatever B is.
        info("exclude", TensorProto.STRING, ["B_exclude", "E"]),
    ]
    outputs = [
        info("history_ids", TensorProto.INT64, ["B", max_length]),
        info("seen_ids", TensorProto.INT64, ["B", max_seen]),
    ]
    defaults = [helper.make_tensor("exclude", TensorProto.STRING, [1, 0], [])]
    if times:
        nodes += _beside_history(node)
        inputs.append(info(HISTORY_TIMES, TensorProto.INT64, ["B_times", "H_times"]))
        outputs.append(info(EVENT_TIMES, TensorProto.INT64, ["B", max_length]))
        defaults.append(helper.make_tensor(HISTORY_TIMES, TensorProto.INT64, [1, 1], [0]))
    graph = helper.make_graph(nodes, "lookup", inputs, outputs, [*constants, *defaults])
    return _model(graph)


def vocabulary_of(lookup: Any) -> list[str]:
    """The item ids that a lookup graph knows, in the order of their indices.

    Args:
        lookup: path of the .onnx file.
    """
    import onnx

    for node in onnx.load(str(lookup)).graph.node:
        if node.op_type == "LabelEncoder":
            keys = next(each.strings for each in node.attribute if each.name == "keys_strings")
            return [key.decode() for key in keys]
    raise ValueError(f"'{lookup}' is no lookup graph: it encodes no item ids")


def build_decode(vocabulary: Sequence[str], k: int) -> Any:
    """Indices to strings: item_indices int64 [B, K] -> item_ids [B, K]; 0 and unknown give ""."""
    from onnx import TensorProto, helper

    check_vocabulary(vocabulary)
    decode = helper.make_node(
        "LabelEncoder",
        ["item_indices"],
        ["item_ids"],
        domain="ai.onnx.ml",
        keys_int64s=list(range(1, len(vocabulary) + 1)),
        values_strings=list(vocabulary),
        default_string="",
    )
    graph = helper.make_graph(
        [decode],
        "decode",
        [helper.make_tensor_value_info("item_indices", TensorProto.INT64, ["B", k])],
        [helper.make_tensor_value_info("item_ids", TensorProto.STRING, ["B", k])],
    )
    return _model(graph)


def _compact(node: Any, ids: str, output: str, width: str) -> list[Any]:
    """Keep the last `width` non-zero entries of `ids` [B, W], in order, with zeros on the left.

    Sorts by position + W' for known ids, position for the rest (W' the padded width): the keys are
    all different, so the order is exact, and a TopK of `width` reversed is the answer.
    """

    def at(name: str) -> str:
        return f"{output}_{name}"

    return [
        # `width` zeros in front: even an empty history has enough entries for the TopK.
        node("Shape", [ids], [at("batch")], start=0, end=1),
        node("Concat", [at("batch"), width], [at("pad_shape")], axis=0),
        node("ConstantOfShape", [at("pad_shape")], [at("pad")], value=_int64_zero()),
        node("Concat", [at("pad"), ids], [at("padded")], axis=1),
        node("Shape", [at("padded")], [at("length_1")], start=1, end=2),
        node("Squeeze", [at("length_1")], [at("length")]),
        node("Range", ["zero", at("length"), "step"], [at("position")]),
        node("Cast", [at("padded")], [at("known")], to=9),  # bool
        node("Cast", [at("known")], [at("known_int")], to=7),  # int64
        node("Mul", [at("known_int"), at("length")], [at("bonus")]),
        node("Add", [at("bonus"), at("position")], [at("key")]),
        node("TopK", [at("key"), width], [at("top"), at("latest_first")], axis=1),
        node("Slice", [at("latest_first"), "last", "before_first", "one", "last"], [at("order")]),
        node("GatherElements", [at("padded"), at("order")], [output], axis=1),
    ]


def _beside_history(node: Any) -> list[Any]:
    """`_compact`'s choice and order of the history, for its times."""
    return [
        # An absent one is a single 0: added to zeros of the history's shape it is one for each.
        node("Mul", ["history_raw", "zero"], ["no_times"]),
        node("Add", [HISTORY_TIMES, "no_times"], ["times_raw"]),
        node("Concat", ["history_ids_pad", "times_raw"], ["times_padded"], axis=1),
        node("GatherElements", ["times_padded", "history_ids_order"], ["times_chosen"], axis=1),
        # Where there are too few known ids, unknown ones fill up in front.
        node("Cast", ["history_ids"], ["times_known"], to=9),  # bool
        node("Cast", ["times_known"], ["times_known_int"], to=7),  # int64
        node("Mul", ["times_chosen", "times_known_int"], [EVENT_TIMES]),
    ]


def _int64_zero() -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor("zero_fill", TensorProto.INT64, [1], [0])


def _model(graph: Any) -> Any:
    from onnx import checker, helper

    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, producer_name="kuberec", opset_imports=opsets)
    model.ir_version = _IR_VERSION
    checker.check_model(model)
    return model
