"""A ranker's graph in 16 bits, for GPUs."""

from collections.abc import Sequence
from pathlib import Path

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
    """Write the float16 version of `source` to `target`: see `recommender.products`.

    Weights and products are 16 bits; inputs, outputs, norms, masks, scores and popularity stay
    float32. On a CPU, ONNX Runtime computes the products in float32: the file is half as large, the
    answers no faster.

    Args:
        kept: names of nodes that stay as they are.

    Raises:
        KuberecError: a weight is beyond float16's 65504.
    """
    from recommender.products import lower_products

    with atomic_file(target) as draft:
        lower_products(
            source,
            draft,
            "fp16",
            kept,
            "take the step quantise's precision: int8, or leave the step out",
        )
