"""What a student learns of its teacher's hidden states, block by block.

Shapes: B batch, L length, M positions that have a next item, D and E the widths of student and
teacher.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender


class HiddenStates(nn.Module):
    """The loss between hidden states, and the linear maps that it needs where widths differ.

    A student's block learns from the teacher's that is as far up (TinyBERT's uniform mapping, Jiao
    et al. 2020, arXiv:1909.10351, section 3): of S and T blocks, i from i · T / S, the last from
    the last. Of a Hugging Face decoder the blocks are its own, with its own width. The maps are
    parameters of this module and of no model: they end with the training.

    Args:
        kind: "cosine": 1 - cos, DistilBERT's (Sanh et al. 2019, arXiv:1910.01108, section 3);
            "mse": squared difference, TinyBERT's equation 8. Both are means over positions.
        example_BL: a batch's histories, which tell how wide the states are.
    """

    def __init__(
        self,
        student: SequentialRecommender,
        teacher: SequentialRecommender,
        kind: str,
        example_BL: Tensor,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.pairs = layer_pairs(len(blocks(student)), len(blocks(teacher)))
        widths = []
        for model in (student, teacher):
            with captured(model) as states, torch.inference_mode():
                model.encode(example_BL[:1], model.item_table(), right_padded=True)
            widths.append([state.shape[-1] for state in states])
        self.maps = nn.ModuleList(
            nn.Identity()
            if widths[0][own] == widths[1][other]
            else nn.Linear(widths[0][own], widths[1][other], bias=False)
            for own, other in self.pairs
        )

    def forward(
        self, student_states: list[Tensor], teacher_states: list[Tensor], learnt_BL: Tensor
    ) -> Tensor:
        """The mean over the pairs of blocks, float32; `learnt_BL`: positions that count."""
        losses = [
            hidden_loss(
                learnt_map(student_states[own][learnt_BL]).float(),
                teacher_states[other][learnt_BL].float(),
                self.kind,
            )
            for learnt_map, (own, other) in zip(self.maps, self.pairs, strict=True)
        ]
        return torch.stack(losses).mean()


def hidden_loss(student_ME: Tensor, teacher_ME: Tensor, kind: str) -> Tensor:
    """Of one pair of blocks: "cosine" or "mse", as `HiddenStates` says."""
    if kind == "mse":
        return functional.mse_loss(student_ME, teacher_ME)
    return (1 - functional.cosine_similarity(student_ME, teacher_ME, dim=-1)).mean()


def layer_pairs(student: int, teacher: int) -> list[tuple[int, int]]:
    """(block of the student, block of the teacher), from 0, for so many blocks of each."""
    return [(own, max(1, round((own + 1) * teacher / student)) - 1) for own in range(student)]


def blocks(model: SequentialRecommender) -> nn.ModuleList:
    """The blocks of a backbone: its outermost list of modules.

    Raises:
        KuberecError: it has none.
    """
    for module in model.backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module):
            return module
    raise KuberecError(
        f"hidden_weight: the backbone '{model.config.backbone}' has no list of blocks whose hidden "
        "states could be learnt: set hidden_weight: 0"
    )


@contextmanager
def captured(model: SequentialRecommender) -> Iterator[list[Tensor]]:
    """What the blocks give, [B, L, width] each, in a list that fills while the model reads."""
    states: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_hook(keep) for block in blocks(model)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
