"""2:4 sparsity: of four weights that stand side by side in a row, two are 0.

The form that sparse tensor cores of NVIDIA's Ampere and later read (Mishra et al. 2021,
arXiv:2104.08378, section 3). O out features, I in features of a linear layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

GROUP, KEPT = 4, 2


def block_linears(model: Any) -> dict[str, nn.Linear]:
    """The linear layers of a model's blocks, by name; of a decoder that is not ours: none."""
    blocks = getattr(model.backbone, "blocks", nn.ModuleList())
    return {name: part for name, part in blocks.named_modules() if isinstance(part, nn.Linear)}


def two_of_four(score_OI: Tensor) -> Tensor:
    """The two highest of each four along I, bool [O, I]; of equals the first."""
    grouped = score_OI.unflatten(1, (-1, GROUP))
    order = grouped.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(grouped, dtype=torch.bool)
    return kept.scatter_(-1, order[..., :KEPT], True).flatten(1)


def is_two_of_four(weight_OI: Tensor) -> bool:
    """Whether two of each four are 0; a matrix that is all zeros has not been trained yet."""
    if weight_OI.shape[1] % GROUP or not weight_OI.any():
        return False
    zeros = (weight_OI == 0).unflatten(1, (-1, GROUP)).sum(dim=-1)
    return bool((zeros >= GROUP - KEPT).all())


def keeping_zeros(
    student: Any, after_step: Callable[[Any], None] | None = None
) -> Callable[[Any], None] | None:
    """`after_step`, and then the zeros of the student's layers that are 2:4 now.

    So whatever trains a model later keeps what `sparsify` made of it.
    """
    masks = {
        name: layer.weight != 0
        for name, layer in block_linears(student).items()
        if is_two_of_four(layer.weight)
    }
    if not masks:
        return after_step

    @torch.no_grad()
    def keep(model: Any) -> None:
        if after_step is not None:
            after_step(model)
        layers = block_linears(model)
        for name, mask_OI in masks.items():
            layers[name].weight.mul_(mask_OI)

    return keep
