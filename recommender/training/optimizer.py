"""AdamW and how its learning rate goes: linear warm-up, then a cosine to zero."""

import math
from typing import Any

import torch
from torch import nn

from recommender.settings import TrainingConfig
from recommender.training.row_optimizer import RowwiseAdamW, row_tables

BETAS = (0.9, 0.98)  # Vaswani et al. 2017, section 5.3


def make_optimizer(
    model: nn.Module, config: TrainingConfig, fused: bool = True
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over what is trained of `model`.

    Matrices decay, norms and biases do not. Frozen weights, as of a decoder with adapters, are
    left out. Tables with sparse gradients have a group of their own (`RowwiseAdamW`).

    Args:
        fused: one kernel for all weights, instead of some for each. It unscales gradients by
            itself, which is too late for clipping: float16 does without.
    """
    tables = row_tables(model)
    others = {id(table) for table in tables}
    trained = [w for w in model.parameters() if w.requires_grad and id(w) not in others]
    groups: list[dict[str, Any]] = [
        {
            "params": [weight for weight in trained if weight.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
        {"params": tables, "weight_decay": config.weight_decay, "rows": True},
    ]
    return (RowwiseAdamW if tables else torch.optim.AdamW)(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=BETAS,
        fused=fused,
    )


def rate_at(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """The learning rate of optimiser step `step` (from 0).

    A linear rise over `warmup_epochs`, under a cosine from its end to the end of `epochs`
    (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts). It depends on the step alone,
    so there is no schedule whose state a resumed run could lack.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    total = max(config.epochs * steps_per_epoch, 1)
    done = min(max(step - warmup, 0) / max(total - warmup, 1), 1)
    rise = min(1.0, (step + 1) / max(warmup, 1))
    return config.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
