"""The moving average of a model's weights (Polyak and Juditsky 1992).

With a few thousand steps on little data it is steadier than the weights of any single step.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from recommender.training.row_optimizer import row_tables

Model = TypeVar("Model", bound=nn.Module)


def averaged(model: Model) -> Model:
    """A copy of `model` that `update_average` moves and no optimiser touches.

    What training does not change is shared with `model`, not copied: item vectors, and the frozen
    weights of a pretrained decoder. So is a table of which a step moves few rows: its average
    would move all of them.
    """
    constant: list[Tensor] = list(model.buffers())
    constant += [weight for weight in model.parameters() if not weight.requires_grad]
    constant += row_tables(model)
    shared: dict[int, Any] = {id(tensor): tensor for tensor in constant}
    average = copy.deepcopy(model, shared).eval()
    for weight in average.parameters():
        if id(weight) not in shared:
            weight.requires_grad_(False)
    return average


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards `model` after optimiser step number `step`.

    The first steps are far from where the weights end: the average starts short and grows to
    `decay`.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    moved = [(kept, weight) for kept, weight in pairs if kept is not weight]
    if moved:
        kept, weights = zip(*moved, strict=True)
        torch._foreach_lerp_(kept, weights, share)
