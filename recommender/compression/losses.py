"""What a student learns of its teacher's scores.

Shapes: M positions that have a next item, m of them at a time, N items (without padding), K best
items, U items of the batch, D and E the widths of student and teacher.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recommender.settings import LearningConfig
from recommender.training.losses import CPU_ROWS, CUDA_ROWS, MadeForward, keep_gradients

_MASKED = -1e9  # not -inf: where everything is masked, its softmax still has a gradient


def distillation_loss(
    student_MN: Tensor, teacher_MN: Tensor, next_M: Tensor, config: LearningConfig
) -> Tensor:
    """soft_share · T² · KL(teacher ‖ student) + (1 - soft_share) · cross-entropy of the next item.

    Both softmaxes at temperature T; T² keeps the gradients' size (Hinton, Vinyals and Dean 2015,
    arXiv:1503.02531, section 2). Logits [M, N] and next items [M] count from item 1 as 0.
    """
    terms = []
    if config.soft_share > 0:
        temperature = config.temperature
        soft = functional.kl_div(
            functional.log_softmax(student_MN / temperature, dim=-1),
            functional.log_softmax(teacher_MN / temperature, dim=-1),
            reduction="batchmean",
            log_target=True,
        )
        terms.append(config.soft_share * temperature**2 * soft)
    if config.soft_share < 1:
        terms.append((1 - config.soft_share) * functional.cross_entropy(student_MN, next_M))
    return sum(terms[1:], terms[0])


def ranking_loss(student_MN: Tensor, teacher_MN: Tensor, others_U: Tensor, top: int) -> Tensor:
    """Minus the log likelihood of the teacher's `top` best items in their order, a place's mean.

    Each is chosen among itself, the ones behind it, and the batch's items that are not in the
    list: a Plackett-Luce model whose tail is in-batch negatives (relaxed ranking distillation,
    Kang et al. 2020, arXiv:2012.04357, equation 9; after Tang and Wang 2018, arXiv:1809.07428).
    Only the list's order counts, not by how much one item scores over the next.

    Args:
        others_U: items of the batch, each once, from 0: next items are seen in training as often
            as they are popular, so that these negatives are the likely mistakes.
    """
    best = teacher_MN.topk(min(top, teacher_MN.shape[1]), dim=1)
    listed_MK = student_MN.gather(1, best.indices)
    in_list_MU = teacher_MN[:, others_U] >= best.values[:, -1:]
    others_MU = student_MN[:, others_U].masked_fill(in_list_MU, _MASKED)
    behind_MK = listed_MK.flip(1).logcumsumexp(dim=1).flip(1)
    chosen_from_MK = torch.logaddexp(behind_MK, others_MU.logsumexp(dim=1, keepdim=True))
    return (chosen_from_MK - listed_MK).mean()


def score_loss(
    hidden_MD: Tensor,
    items_ND: Tensor,
    teacher_ME: Tensor,
    teacher_items_NE: Tensor,
    next_M: Tensor,
    config: LearningConfig,
) -> Tensor:
    """`distillation_loss` + ranking_weight · `ranking_loss` of hidden @ items, float32.

    Of [M, N] nothing is ever kept: a few rows at a time go forward and backward while they are in
    the processor's cache (CPU_ROWS rows of both models' scores, some 6 · 256 · N · 4 bytes, 600 MB
    at 100,000 items), as in training (recommender.training.losses): at 3,416 items in half the time
    of whole matrices in float32, in a third with bfloat16. Matrix products are in the format that
    autocast asks for. Gradients reach `hidden_MD` and `items_ND`.
    """
    total: Tensor = _ChunkedScores.apply(
        hidden_MD, items_ND, teacher_ME, teacher_items_NE, next_M, config
    )
    return total


class _ChunkedScores(MadeForward):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        items_ND: Tensor,
        teacher_ME: Tensor,
        teacher_items_NE: Tensor,
        next_M: Tensor,
        config: LearningConfig,
    ) -> Tensor:
        device = hidden_MD.device.type
        low = torch.float32
        if torch.is_autocast_enabled(device):
            low = torch.get_autocast_dtype(device)
        hidden, items = hidden_MD.detach().to(low), items_ND.detach().to(low)
        teacher, teacher_items = teacher_ME.to(low), teacher_items_NE.to(low)
        others_U = next_M.unique() if config.ranking_weight else next_M
        grad_hidden = torch.empty_like(hidden, dtype=torch.float32)
        grad_items = torch.zeros_like(items, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        rows = CPU_ROWS if device == "cpu" else CUDA_ROWS
        with torch.autocast(device, enabled=False), torch.enable_grad():
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                chunk_mD = hidden[part].requires_grad_()
                table_ND = items.detach().requires_grad_()
                student_mN = (chunk_mD @ table_ND.mT).float()
                teacher_mN = (teacher[part] @ teacher_items.mT).float()
                loss = distillation_loss(student_mN, teacher_mN, next_M[part], config)
                if config.ranking_weight:
                    ordered = ranking_loss(student_mN, teacher_mN, others_U, config.ranking_top)
                    loss = loss + config.ranking_weight * ordered
                loss = loss * (len(chunk_mD) / len(hidden))
                grad_hidden[part], slope_ND = torch.autograd.grad(loss, (chunk_mD, table_ND))
                grad_items += slope_ND
                total += loss.detach()
        keep_gradients(ctx, (hidden_MD, grad_hidden), (items_ND, grad_items))
        return total
