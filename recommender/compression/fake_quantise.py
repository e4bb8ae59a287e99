"""Quantisation-aware training: the model reads and scores through the rounding of its INT8 graph.

Weights, activations and the item table are rounded to the grid and taken as floating-point numbers
again; gradients pass the rounding as if it were not there, but where a value is cut off (the
straight-through estimator of Jacob et al. 2018, arXiv:1712.05877, section 3). torch's own
fake_quantize operations do both. The grids are those of ONNX Runtime's static quantiser, as
recommender.compression.quantize sets it: activations 8 bits, asymmetric, one range a tensor;
weights and scored items symmetric, one scale an output (`per_channel`), 7 bits with
`reduce_range`; items as they are read asymmetric, one range for the table, 7 bits too. The
attention's own products (queries with keys, weights with values) stay exact here and are 8 bits
in the graph.

torchao's QAT would do the linear layers, with grids of its own: its 8-bit configurations are
per-token activations and groups of 4-bit weights, and it knows no item table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.model import SequentialRecommender
from recommender.settings import QuantiseStep

MOMENTUM = 0.05  # of the ranges, as exponential averages (Jacob et al. 2018, section 3.1)
_TINY = 1e-12


class FakeActivation(nn.Module):
    """Rounds a tensor to 256 levels of a range that follows what it sees in training.

    The range is in buffers that no checkpoint holds, so that a moving average of the model shares
    them.
    """

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.full((), torch.nan), persistent=False)
        self.register_buffer("high", torch.full((), torch.nan), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._follow(x.detach())
        if torch.isnan(self.low):
            return x
        return fake_asymmetric(x, self.low, self.high)

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        low, high = x.aminmax()
        if torch.isnan(self.low):
            self.low.copy_(low)
            self.high.copy_(high)
        self.low.lerp_(low.to(self.low.dtype), MOMENTUM)
        self.high.lerp_(high.to(self.high.dtype), MOMENTUM)


def fake_asymmetric(x: Tensor, low: Tensor, high: Tensor, most: int = 255) -> Tensor:
    """`x` on the levels 0 to `most` from min(low, 0) to max(high, 0), 0 among them."""
    low, high = low.float().clamp(max=0), high.float().clamp(min=0)
    scale = ((high - low) / most).clamp(min=_TINY)
    zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, most)


def fake_symmetric(weight: Tensor, per_channel: bool, reduce_range: bool) -> Tensor:
    """A matrix [outputs, inputs] on the levels of ONNX Runtime's signed weights."""
    most = 64 if reduce_range else 127
    weight = weight.float()
    sizes = weight.detach().abs()
    if not per_channel:
        scale = (sizes.max() / most).clamp(min=_TINY)
        zero = torch.zeros((), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_tensor_affine(weight, scale, zero, -most, most)
    scales = (sizes.amax(dim=1) / most).clamp(min=_TINY)
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -most, most)


class _Linear(nn.Linear):
    read: FakeActivation
    grid: QuantiseStep

    def forward(self, input: Tensor) -> Tensor:
        weight = fake_symmetric(self.weight, self.grid.per_channel, self.grid.reduce_range)
        return functional.linear(self.read(input), weight, self.bias)


class _Recommender(SequentialRecommender):
    scored: FakeActivation
    grid: QuantiseStep

    def item_table(self) -> Tensor:
        """Of the scores; what histories read has a grid of its own, and is kept for `encode`."""
        exact_ND = super().item_table()
        low, high = exact_ND.detach().aminmax()
        most = 127 if self.grid.reduce_range else 255
        self.__dict__["_read_ND"] = fake_asymmetric(exact_ND, low, high, most)
        return fake_symmetric(exact_ND, self.grid.per_channel, self.grid.reduce_range)

    def encode(self, history_BL: Tensor, table: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        read_ND = None if table is None else self.__dict__["_read_ND"]
        return self.scored(super().encode(history_BL, read_ND, *args, **kwargs))


@contextmanager
def fake_quantised(
    model: SequentialRecommender, grid: QuantiseStep, items: bool = True
) -> Iterator[None]:
    """Within the block `model` computes as its INT8 graph will; its weights stay where they are.

    Its class and those of its backbone's linear layers are others for so long.

    Args:
        items: the table is rounded too, and what scores are made of; not where the graph keeps
            items in another form (codes, bytes with a scale a row, cells).
    """
    linears = [part for part in model.backbone.modules() if type(part) is nn.Linear]
    device = model.log_popularity.device
    try:
        if items:
            model.__class__ = _Recommender
            model.grid, model.scored = grid, FakeActivation().to(device)  # type: ignore[assignment]
        for linear in linears:
            linear.__class__ = _Linear
            linear.grid, linear.read = grid, FakeActivation().to(device)  # type: ignore[assignment]
        yield
    finally:
        for linear in linears:
            linear.__class__ = nn.Linear
            del linear.grid, linear.read
        if items:
            model.__class__ = SequentialRecommender
            del model.grid, model.scored
            model.__dict__.pop("_read_ND", None)
