"""The moving average of a model's weights (Polyak and Juditsky 1992).

With a few thousand steps on little data it is steadier than the weights of any single step.
"""

import copy

import torch
from torch import nn


def averaged(model: nn.Module) -> nn.Module:
    """A copy of `model` that `update_average` moves and no optimiser touches."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards `model` after optimiser step number `step`.

    The first steps are far from where the weights end: the average starts short and grows to
    `decay`.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    for kept, weight in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(weight, share)
