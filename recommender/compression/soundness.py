"""Whether a model is one that can be compressed at all: asked before hours are spent on it."""

import torch
from torch import nn

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender


def require_finite(model: nn.Module, name: str) -> None:
    """Raises KuberecError, naming the tensor, where a weight or a buffer is not a number.

    `name`: of the model, for a sentence.
    """
    for tensor_name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        wrong = int((~torch.isfinite(tensor)).sum())
        if wrong:
            raise KuberecError(
                f"{name}: {wrong} of the {tensor.numel()} numbers of '{tensor_name}' are not "
                "finite (NaN or infinite): nothing can be learnt of it or measured on it. Train "
                "it again, from vectors without such numbers"
            )


def ranker_parameters(model: SequentialRecommender) -> int:
    """Numbers that the exported ranker holds: what reads a history, the item table, once, and log
    popularity. Texts and their projection are folded into the table, and do not count."""
    parts = (model.backbone, model.input_norm, model.output_norm)
    reads = sum(weight.numel() for part in parts for weight in part.parameters())
    items = len(model.log_popularity)
    return reads + items * model.config.dim + items


def require_smaller(student: SequentialRecommender, teacher: SequentialRecommender) -> None:
    """Raises KuberecError, with both numbers, where a student is larger than its teacher."""
    own, full = ranker_parameters(student), ranker_parameters(teacher)
    if own > full:
        raise KuberecError(
            f"distil: the student has {own:,} parameters as a ranker, its teacher {full:,}: a "
            "student must not be larger: lower the step's dim, layers or feedforward"
        )
