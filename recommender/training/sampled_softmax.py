"""Softmax over a sample of the items: for catalogues too large to score at every step.

Shapes: B batch, L length, M positions that have a next item, S negatives, U distinct items of a
step, N items (without padding), D width.
"""

import math
from typing import Any

import torch
from torch import Tensor

from recommender.model import SequentialRecommender
from recommender.sequences import Batch
from recommender.training.losses import CPU_ROWS, CUDA_ROWS

POPULAR_SHARE = 0.5  # of the draws


class NegativeSampler:
    """Draws items with known probabilities: q = share · popularity + (1 - share) / N.

    Popular items are most of what a softmax's denominator is made of, and are drawn most; the
    uniform part bounds the weight 1 / q of a rare one, and with it the variance. What is drawn
    depends on seed and step alone, so that processes and pieces of one step share their negatives.

    Args:
        log_popularity: [N+1], as the model has it: logarithms of shares that sum to 1; entry 0
            is padding.
        count: S, draws a step, with replacement.
    """

    def __init__(
        self, log_popularity: Tensor, count: int, seed: int, popular_share: float = POPULAR_SHARE
    ) -> None:
        self.log_popularity = log_popularity.detach()
        self.count = count
        self.seed = seed
        self.popular_share = popular_share
        upto_N = self.log_popularity[1:].double().cpu().exp_().cumsum(0)
        self._upto_N = upto_N.div_(upto_N[-1].clone())

    def draw(self, step: int) -> Tensor:
        """int64 [S], 1..N, on the CPU."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        items = len(self._upto_N)
        place_S = torch.rand(self.count, generator=generator, dtype=torch.float64)
        popular_S = torch.searchsorted(self._upto_N, place_S, right=True).clamp(max=items - 1)
        uniform_S = torch.randint(items, (self.count,), generator=generator)
        is_popular_S = torch.rand(self.count, generator=generator) < self.popular_share
        return torch.where(is_popular_S, popular_S, uniform_S) + 1

    def log_expected(self, index_S: Tensor) -> Tensor:
        """ln(S · q): how often an item is drawn in a step, float32 of `index_S`'s shape."""
        self.log_popularity = self.log_popularity.to(index_S.device)
        share_S = self.log_popularity[index_S].double().exp() * self.popular_share
        q_S = share_S + (1 - self.popular_share) / len(self._upto_N)
        return (q_S.log() + math.log(self.count)).float()


def sampled_next_item_loss(
    model: SequentialRecommender, batch: Batch, negative_S: Tensor, log_expected_S: Tensor
) -> Tensor:
    """`sampled_softmax_loss` of a right-padded batch, summed over its positions.

    Only the U rows of the item table that the batch reads or scores are computed: neither [M, N]
    nor [N, D] is made, and the embedding's gradient has U rows.

    Args:
        negative_S: of `NegativeSampler.draw`, on the model's device.
    """
    following_M = batch.following_BL[batch.following_BL > 0]
    padding = torch.zeros_like(negative_S[:1])  # sorted, padding stays 0
    parts = [padding, batch.history_BL.flatten(), following_M, negative_S]
    index_U, place = torch.unique(torch.cat(parts), return_inverse=True)
    _, history, following, negative = place.split([len(part) for part in parts])
    rows_UD = model.item_rows(index_U)
    hidden_BLD = model.encode(
        history.view_as(batch.history_BL), rows_UD, times_BL=batch.times_BL, right_padded=True
    )
    return sampled_softmax_loss(
        hidden_BLD[batch.following_BL > 0],
        rows_UD[following],
        rows_UD[negative],
        negative[None, :] == following[:, None],
        log_expected_S,
    )


def sampled_softmax_loss(
    hidden_MD: Tensor,
    positive_MD: Tensor,
    negative_SD: Tensor,
    same_MS: Tensor,
    log_expected_S: Tensor,
) -> Tensor:
    """Cross-entropy with an estimate of its denominator, summed over M, float32.

    -s(y) + ln(e^s(y) + Σ_j e^(s(j) - ln(S q(j)))): the sum over S draws from q is an unbiased
    estimate of all other items' part of the denominator (importance sampling: Bengio and Senécal
    2008, "Adaptive importance sampling to accelerate training of a neural probabilistic language
    model", equation 8; for retrieval, "logQ correction": Yi et al. 2019, "Sampling-bias-corrected
    neural modeling for large corpus item recommendations", RecSys, section 3.1). With more draws
    loss and gradient come closer to the full softmax's. The next item itself is always there, so
    that it is not corrected, and draws of it are masked.

    Gradients are computed in the forward pass, a few rows at a time, as in
    `recommender.training.losses`.

    Args:
        same_MS: true where a negative is the position's next item.
        log_expected_S: ln(S q) of each draw.
    """
    total: Tensor = _ChunkedSampledCrossEntropy.apply(
        hidden_MD, positive_MD, negative_SD, same_MS, log_expected_S
    )
    return total


class _ChunkedSampledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MD: Tensor,
        positive_MD: Tensor,
        negative_SD: Tensor,
        same_MS: Tensor,
        log_expected_S: Tensor,
    ) -> Tensor:
        device = hidden_MD.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            hidden = hidden_MD.detach().to(low or hidden_MD.dtype)
            positive = positive_MD.detach().to(hidden.dtype)
            negative = negative_SD.detach().to(hidden.dtype)
            size = CPU_ROWS if device == "cpu" else CUDA_ROWS
            grad_hidden = torch.empty_like(hidden, dtype=torch.float32)
            grad_positive = torch.empty_like(hidden, dtype=torch.float32)
            grad_negative = torch.zeros_like(negative, dtype=torch.float32)
            total = torch.zeros((), dtype=torch.float32, device=hidden.device)
            for start in range(0, len(hidden), size):
                rows = slice(start, start + size)
                logits = (hidden[rows] @ negative.mT).float().sub_(log_expected_S)
                logits.masked_fill_(same_MS[rows], -torch.inf)
                wanted = (hidden[rows].float() * positive[rows].float()).sum(dim=1, keepdim=True)
                norm = torch.logaddexp(torch.logsumexp(logits, dim=1, keepdim=True), wanted)
                total += (norm - wanted).sum()
                slope = logits.sub_(norm).exp_().to(hidden.dtype)
                own = (wanted - norm).exp_() - 1
                grad_hidden[rows] = own * positive[rows] + slope @ negative
                grad_positive[rows] = own * hidden[rows]
                grad_negative += slope.mT @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_positive, grad_negative)
        ctx.dtypes = hidden_MD.dtype, positive_MD.dtype, negative_SD.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*((slope * grads[0]).to(dtype) for slope, dtype in saved), None, None)
