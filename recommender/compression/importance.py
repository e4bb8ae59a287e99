"""How much each block, head and inner unit matters, measured on training windows.

Shapes: B windows, L length, H heads, E width of a head, I inner units of an MLP.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.backbones.base import BackboneBlock, Part
from recommender.errors import KuberecError
from recommender.model import SequentialRecommender
from recommender.sequences import Batch, Split, epoch_batches
from recommender.settings import ModelConfig
from recommender.training.losses import softmax_loss

BATCH = 64


@dataclass(frozen=True)
class Importance:
    """Of each block, >= 0; 0 is what the model does not need.

    Attributes:
        heads: [H] a block.
        inner: [I] a block, [0] where there is no MLP.
    """

    heads: list[Tensor]
    inner: list[Tensor]


def training_batches(train: Split, config: ModelConfig, windows: int, seed: int) -> list[Batch]:
    """Right-padded batches of `windows` training histories, or of all where they are fewer.

    Raises:
        KuberecError: none of them has two items, so that nothing is predicted.
    """
    rows = np.random.default_rng(seed).permutation(len(train))[:windows]
    times = train.times_for(config)
    batches = epoch_batches(
        [train.histories[row] for row in rows],
        config.max_length,
        BATCH,
        seed,
        epoch=0,
        times=None if times is None else [times[row] for row in rows],
    )
    if not batches:
        raise KuberecError("no training history has two items: importance cannot be measured")
    return batches


def taylor(model: SequentialRecommender, batches: list[Batch]) -> Importance:
    """What the next item's cross-entropy changes by, to first order, without a head or a unit.

    A gate of 1 on each head's and each unit's output has the slope Σ_L x · ∂loss/∂x. Of heads
    the mean of its size over windows (Michel et al. 2019, arXiv:1905.10650, equation 2), of
    units the mean of its square (Molchanov et al. 2019, arXiv:1906.10771, equation 8).
    """
    blocks = blocks_of(model)
    heads = [torch.zeros(block.heads) for block in blocks]
    inner = [torch.zeros(_width(block)) for block in blocks]
    model.eval()
    for batch in batches:
        ends = [end for block in blocks for end in (block.heads_end, block.inner_end) if end]
        with inputs_of(ends) as seen:
            loss = next_item_loss(model, batch)
            slopes = dict(zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True))
        for place, block in enumerate(blocks):
            x_BHE, slope_BHE = (
                each[block.heads_end].unflatten(-1, (block.heads, -1)) for each in (seen, slopes)
            )
            heads[place] += (x_BHE * slope_BHE).sum(dim=(1, 3)).abs().sum(dim=0).detach().cpu()
            if (end := block.inner_end) is not None:
                inner[place] += (seen[end] * slopes[end]).sum(dim=1).square().sum(0).detach().cpu()
    windows = sum(len(batch.history_BL) for batch in batches)
    return Importance([each / windows for each in heads], [each / windows for each in inner])


@torch.no_grad()
def magnitude(model: SequentialRecommender) -> Importance:
    """The L1 norm of all weights that go with a head or a unit.

    Of filters: Li et al. 2017, arXiv:1608.08710; over all coupled layers as in DepGraph, Fang et
    al. 2023, arXiv:2301.12900. Needs no data, and is blind to what cancels out further on.
    """
    nothing = torch.tensor([], dtype=torch.int64)
    heads, inner = [], []
    for block in blocks_of(model):
        state = block.state_dict()

        def norm(parts: dict[str, Part], state: dict[str, Tensor] = state) -> Tensor:
            there = (state[name].index_select(*parts[name]) for name in parts if name in state)
            return sum((part.abs().sum() for part in there), torch.zeros(())).cpu()

        each = [torch.tensor([head]) for head in range(block.heads)]
        units = torch.arange(_width(block)).split(1)
        heads.append(
            torch.stack([norm(block.coupled(columns_of(block, h), h, nothing)) for h in each])
        )
        inner.append(
            torch.stack([norm(block.coupled(nothing, nothing, unit)) for unit in units])
            if _width(block)
            else torch.zeros(0)
        )
    return Importance(heads, inner)


def blocks_of(model: SequentialRecommender) -> list[BackboneBlock]:
    """The blocks of a backbone of ours."""
    blocks = model.backbone.blocks
    assert isinstance(blocks, nn.ModuleList)
    return [block for block in blocks if isinstance(block, BackboneBlock)]


def columns_of(block: BackboneBlock, heads: Tensor) -> Tensor:
    """Where the outputs of some heads are in `heads_end`'s input, int64."""
    width = block.heads_end.in_features // block.heads
    return (heads[:, None] * width + torch.arange(width)).flatten()


@torch.no_grad()
def loss_rises(model: SequentialRecommender, batches: list[Batch]) -> Tensor:
    """How much higher the next item's cross-entropy is without each block, of two at least.

    The criterion of Shortened LLaMA, Kim et al. 2024, arXiv:2402.02834, section 3.1.
    """
    backbone, blocks = model.eval().backbone, blocks_of(model)

    def loss() -> float:
        return sum(float(next_item_loss(model, batch)) for batch in batches)

    whole, rises = loss(), []
    try:
        for left_out in blocks:
            backbone.blocks = nn.ModuleList(block for block in blocks if block is not left_out)
            rises.append(loss() - whole)
    finally:
        backbone.blocks = nn.ModuleList(blocks)
    return torch.tensor(rises)


@torch.no_grad()
def influence(model: SequentialRecommender, batches: list[Batch]) -> Tensor:
    """1 - the mean cosine of each block's input and output.

    Block influence of ShortGPT, Men et al. 2024, arXiv:2403.03853, equation 1.
    """
    blocks = blocks_of(model.eval())
    turned, positions = torch.zeros(len(blocks)), 0
    states: list[Tensor] = []

    def hold(block: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        states.extend((given[0], out))

    hooks = [block.register_forward_hook(hold) for block in blocks]
    for batch in batches:
        known_BL = batch.history_BL > 0
        states.clear()
        next_item_loss(model, batch)
        for place in range(len(blocks)):
            before, after = states[2 * place : 2 * place + 2]
            cosine_BL = functional.cosine_similarity(before, after, dim=-1)
            turned[place] += (1 - cosine_BL)[known_BL].sum().cpu()
        positions += int(known_BL.sum())
    for hook in hooks:
        hook.remove()
    return turned / positions


def next_item_loss(model: SequentialRecommender, batch: Batch) -> Tensor:
    """Cross-entropy of the next items, summed over a right-padded batch's positions."""
    table_ND = model.item_table()
    hidden_BLD = model.encode(
        batch.history_BL, table_ND, times_BL=batch.times_BL, right_padded=True
    )
    known_BL = batch.following_BL > 0
    return softmax_loss(hidden_BLD[known_BL], table_ND[1:], batch.following_BL[known_BL] - 1)


@contextmanager
def inputs_of(layers: list[nn.Linear]) -> Iterator[dict[nn.Module, Tensor]]:
    """What each layer reads in the last forward pass within the context."""
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: seen.update({layer: given[0]}))
        for layer in layers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _width(block: BackboneBlock) -> int:
    return 0 if block.inner_end is None else block.inner_end.in_features
