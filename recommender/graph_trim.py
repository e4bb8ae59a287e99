"""A ranker's graph that reads no more of its histories than there is: padding is cut off first.

Serving pads every history to the model's length, so that Triton can merge requests, and most are
far shorter. What is padding in every row of a batch is cut off inside the graph, behind its inputs;
what is left is read as before: positions are distances, or count from the first known item.

Shapes then depend on the data, which TensorRT does not plan for: a GPU's graph is left as it is.
"""

from pathlib import Path
from typing import Any

from recommender.files import atomic_file
from recommender.onnx_session import graph_file
from recommender.string_graphs import EVENT_TIMES

READ = "history_ids_read"  # the history without what is cut off
_AFTER_LAST = 2**63 - 1


def trim_padding(model: Any) -> None:
    """Change a ranker, an onnx.ModelProto of opset 18 or later, in place.

    Columns of `history_ids` (and `event_times`) [B, L] before the first known item of the batch are
    cut off; one at least is left. A graph that is trimmed already stays as it is.

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
    read = {"history_ids": READ}
    if EVENT_TIMES in inputs:
        read[EVENT_TIMES] = f"{EVENT_TIMES}_read"
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in read:
                node.input[place] = read[name]

    def constant(name: str, values: list[int], kind: int = TensorProto.INT64) -> Any:
        return helper.make_tensor(f"trim_{name}", kind, [len(values)], values)

    node = helper.make_node
    nodes = [
        node("ReduceMax", ["history_ids", "trim_rows"], ["trim_last_id"], keepdims=0),  # [L]
        node("Cast", ["trim_last_id"], ["trim_known_bool"], to=TensorProto.BOOL),
        node("Cast", ["trim_known_bool"], ["trim_known"], to=TensorProto.INT32),
        # The last column counts as known: of a batch without known items it is what is left.
        node("Slice", ["trim_known", "trim_rows", "trim_last"], ["trim_but_last"]),
        node("Concat", ["trim_but_last", "trim_yes"], ["trim_kept"], axis=0),
        node("ArgMax", ["trim_kept"], ["trim_start"], axis=0, keepdims=1),  # the first of them
    ]
    nodes += [
        node("Slice", [name, "trim_start", "trim_end", "trim_columns"], [cut])
        for name, cut in read.items()
    ]
    graph.initializer.extend(
        [
            constant("rows", [0]),
            constant("columns", [1]),
            constant("last", [-1]),
            constant("end", [_AFTER_LAST]),
            constant("yes", [1], TensorProto.INT32),
        ]
    )
    for each in reversed(nodes):
        graph.node.insert(0, each)


def trim_file(path: Path) -> None:
    """`trim_padding` of a ranker's file, or of a large one's folder, atomically."""
    import onnx

    # What a large graph has beside its file stays there: no weight is looked at.
    file = graph_file(path)
    model = onnx.load(str(file), load_external_data=False)
    trim_padding(model)
    with atomic_file(file) as draft:
        onnx.save(model, str(draft))
