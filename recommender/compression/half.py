"""A ranker's graph in 16 bits, for GPUs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import atomic_file


def require_half(precision: str) -> None:
    """Raises KuberecError where ONNX Runtime has no products in a 16-bit format."""
    if precision == "bfloat16":
        raise KuberecError(
            "quantise: precision: bfloat16: ONNX Runtime's CPU has no matrix product in bfloat16 "
            "(NOT_IMPLEMENTED: MatMul(13)), so that the graph could be neither measured nor "
            "served here: take float16 for GPUs, or int8"
        )


def half_ranker(source: Path, target: Path, kept: Sequence[str] = ()) -> None:
    """Write the float16 version of `source` to `target`, by ONNX Runtime's own converter.

    Weights and products are 16 bits; inputs, outputs and everything from the scores on stay as they
    are: seen items are masked with -1e9, which float16 cannot hold. Attention is masked with the
    least that it can, which a softmax does not tell from that. On a CPU, ONNX Runtime casts to
    float32 around most nodes: the file is half as large, the answers no faster.

    Args:
        kept: names of nodes that stay as they are.
    """
    import warnings

    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(str(source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each number that is cut off or too small
        half = convert_float_to_float16(
            model, keep_io_types=True, node_block_list=[*_behind_scores(model.graph), *kept]
        )
    OnnxModel(half).topological_sort()  # casts come last otherwise
    onnx.checker.check_model(half)
    with atomic_file(target) as draft:
        onnx.save(half, str(draft))


def _behind_scores(graph: Any) -> list[str]:
    """Names of the nodes between the last product and the outputs."""
    nodes = list(graph.node)
    products = [index for index, node in enumerate(nodes) if node.op_type in ("MatMul", "Gemm")]
    return [node.name for node in nodes[products[-1] + 1 :]]
