"""A ranker's graph that reads no more of its inputs than there is: padding is cut off first.

Serving pads every history to the model's length, so that Triton can merge requests, and most are
far shorter; what was seen is padded too. What is padding in every row of a batch is cut off inside
the graph, behind its inputs; what is left is read as before: positions are distances, or count from
the first known item.

Shapes then depend on the data, which TensorRT does not plan for: a GPU's graph is left as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.files import atomic_file
from recommender.onnx_session import graph_file
from recommender.string_graphs import EVENT_TIMES

READ = "history_ids_read"  # the history without what is cut off
_AFTER_LAST = 2**63 - 1


def trim_padding(model: Any, seen: bool = False) -> None:
    """Change a ranker, an onnx.ModelProto of opset 18 or later, in place.

    Columns of `history_ids` (and `event_times`) [B, L] before the first known item of the batch are
    cut off; one at least is left. With `seen` those of `seen_ids` [B, S] too: it pays where each is
    compared with each candidate; to mask a few hundred places costs less than the cut. A graph that
    is trimmed already stays as it is.

    Raises:
        ValueError: the length of its histories is fixed.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    inputs = {value.name: value for value in graph.input}
    if any(READ in node.output for node in graph.node):
        return
    if inputs["history_ids"].type.tensor_type.shape.dim[1].HasField("dim_value"):
        raise ValueError("the graph's histories have a fixed length: nothing can be cut off")
    histories = ["history_ids", *([EVENT_TIMES] if EVENT_TIMES in inputs else [])]
    nodes = _cut("history_ids", histories) + (_cut("seen_ids", ["seen_ids"]) if seen else [])
    cut = [*histories, "seen_ids"] if seen else histories
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in cut:
                node.input[place] = _read(name)
    graph.initializer.extend(
        helper.make_tensor(f"trim_{name}", kind, [1], [value])
        for name, kind, value in (
            ("rows", TensorProto.INT64, 0),
            ("columns", TensorProto.INT64, 1),
            ("last", TensorProto.INT64, -1),
            ("end", TensorProto.INT64, _AFTER_LAST),
            ("yes", TensorProto.INT32, 1),
        )
    )
    for each in reversed(nodes):
        graph.node.insert(0, each)
    # The exporter has noted shapes by the inputs' `length`. ONNX Runtime would plan its memory by
    # them, and by default warn at every request that what is read is shorter (Triton's does not).
    del graph.value_info[:]


def _cut(ids: str, tensors: Sequence[str]) -> list[Any]:
    """Nodes that cut `tensors` [B, L] before the first column in which `ids` has an item."""
    from onnx import TensorProto, helper

    def node(kind: str, inputs: list[str], made: str, **attributes: Any) -> Any:
        return helper.make_node(kind, inputs, [made], **attributes)

    at = f"trim_{ids}_"
    return [
        node("ReduceMax", [ids, "trim_rows"], at + "last_id", keepdims=0),  # [L]
        node("Cast", [at + "last_id"], at + "known_bool", to=TensorProto.BOOL),
        node("Cast", [at + "known_bool"], at + "known", to=TensorProto.INT32),
        # The last column counts as known: of a batch without known items it is what is left.
        node("Slice", [at + "known", "trim_rows", "trim_last"], at + "but_last"),
        node("Concat", [at + "but_last", "trim_yes"], at + "kept", axis=0),
        node("ArgMax", [at + "kept"], at + "start", axis=0, keepdims=1),  # the first of them
        *(
            node("Slice", [name, at + "start", "trim_end", "trim_columns"], _read(name))
            for name in tensors
        ),
    ]


def _read(name: str) -> str:
    return f"{name}_read"


def trim_file(path: Path, seen: bool = False) -> None:
    """`trim_padding` of a ranker's file, or of a large one's folder, atomically."""
    import onnx

    # What a large graph has beside its file stays there: no weight is looked at.
    file = graph_file(path)
    model = onnx.load(str(file), load_external_data=False)
    trim_padding(model, seen)
    with atomic_file(file) as draft:
        onnx.save(model, str(draft))
