"""A torch module as an ONNX file, by torch's dynamo exporter, made small and portable.

The file holds standard operators alone. What a server's ONNX Runtime fuses for its processor
(attention, GELU, layouts) it fuses when it loads the graph: done here, it would tie the file to one
version's own operators, which TensorRT and older images do not read.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recommender.files import atomic_directory, atomic_file
from recommender.opsets import check_opset

# protobuf ends at 2 GiB: a graph with more is a folder, as Triton wants it, of these two files.
EXTERNAL_BYTES = 1_800_000_000
GRAPH, DATA = "model.onnx", "weights.bin"


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    path: Path,
    opset: int,
    dynamic: Mapping[str, Mapping[int, str]],
    most: Mapping[str, int] | None = None,
) -> None:
    """Write `module` to `path`, atomically; the same module gives the same bytes.

    A graph of more than EXTERNAL_BYTES becomes a folder of that name (`onnx_session.graph_file`).

    Args:
        module: in evaluation mode; called with `inputs` in their order.
        inputs: examples, by name. A dimension that varies must not be 0 or 1 in them.
        opset: of the standard operators (recommender.opsets).
        dynamic: of each input the dimensions that vary, with a name for each.
        most: how large dimensions can be, by name.

    Raises:
        KuberecError: an opset that servers do not know.
        torch.onnx.errors.OnnxExporterError: the module has something that ONNX has not.
    """
    check_opset(opset)
    # Names tie the dimensions of several inputs together: one object for each.
    names = {name for dims in dynamic.values() for name in dims.values()}
    symbols = {
        name: torch.export.Dim(name, min=1, max=(most or {}).get(name)) for name in sorted(names)
    }
    shapes = tuple({d: symbols[n] for d, n in dynamic.get(name, {}).items()} for name in inputs)
    torch_log = logging.getLogger("torch.onnx")
    level = torch_log.level
    torch_log.setLevel(logging.ERROR)  # it lists the packages that are not installed
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations inside torch
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=shapes,
                opset_version=opset,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
    finally:
        torch_log.setLevel(level)
    assert program is not None  # it is where dynamo is asked for
    _tidy(program.model)
    _name_weights(program.model.graph, module)
    _save(program.model, path)


def _tidy(model: Any) -> None:
    """Make it what quantisers and `ranker_graph` know, and silent on the machine that made it."""
    from onnx_ir.passes import common

    for node in list(model.graph):
        if node.op_type == "GatherND":
            _look_up_rows(node, model.graph)
        elif node.op_type == "Transpose":
            _transpose_now(node, model.graph)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)


def _look_up_rows(node: Any, graph: Any) -> None:
    """GatherND of rows by Unsqueeze(index, -1), torch's `matrix[index]`, is a Gather: quicker."""
    import onnx_ir as ir

    rows, places = node.inputs
    wide = places.producer()
    if wide is None or wide.op_type != "Unsqueeze" or node.attributes.get_int("batch_dims", 0):
        return
    axis = ir.convenience.get_const_tensor(wide.inputs[1])
    if axis is None or axis.numpy().tolist() != [-1]:
        return
    gather = ir.node("Gather", [rows, wide.inputs[0]], {"axis": 0}, name=node.name)
    gather.outputs[0].shape, gather.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], [gather], node.outputs, gather.outputs
    )


def _transpose_now(node: Any, graph: Any) -> None:
    """A weight that is only read transposed is kept so: a quantiser wants constants."""
    import numpy as np
    import onnx_ir as ir

    weight = node.inputs[0]
    if weight.const_value is None:
        return
    turned = np.ascontiguousarray(
        weight.const_value.numpy().transpose(node.attributes["perm"].value)
    )
    name = f"{weight.name}_transposed"
    value = ir.val(name, const_value=ir.tensor(turned, name=name))
    graph.register_initializer(value)
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], node.outputs, [value])


def _name_weights(graph: Any, module: nn.Module) -> None:
    """What the optimiser made of a weight is called after it: small ones it turned itself."""
    import numpy as np

    weights = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.ndim == 2:
            weights[name] = tensor.detach().numpy()
            weights[f"{name}_transposed"] = weights[name].T
    for name, value in list(graph.initializers.items()):
        if name in weights or value.const_value is None or len(value.const_value.shape) != 2:
            continue
        array = value.const_value.numpy()
        for known, weight in weights.items():
            if known not in graph.initializers and np.array_equal(array, weight):
                graph.initializers.pop(name)
                value.name = known
                graph.register_initializer(value)
                break


def _save(model: Any, path: Path) -> None:
    """Write a graph to `path`, atomically: a file, or a folder where it is too large for one."""
    import onnx_ir as ir

    tensors = (value.const_value for value in model.graph.initializers.values())
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) < EXTERNAL_BYTES:
        with atomic_file(path) as draft:
            ir.save(model, draft)
        return
    with atomic_directory(path) as folder:
        ir.save(model, folder / GRAPH, external_data=DATA)
