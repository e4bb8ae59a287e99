"""HSTU, the block of generative recommenders (Zhai et al. 2024, arXiv:2402.17152, section 3)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.backbones.base import Backbone, BackboneBlock, Part
from recommender.backbones.positions import TimeBias, distances, visible
from recommender.settings import BlockShape, ModelConfig


class Hstu(Backbone):
    """Blocks of pointwise aggregated attention; biases on distance, and on time if asked for."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, shape) for shape in config.shapes())

    def forward(
        self,
        x_BLD: Tensor,
        known_BL: Tensor | None,
        times_BL: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        visible_B1LL = visible(x_BLD.shape[1], known_BL, x_BLD.device)
        for block in self.blocks:
            x_BLD = block(x_BLD, visible_B1LL, times_BL)
        return x_BLD[:, -1:] if last_only else x_BLD


class Block(BackboneBlock):
    """Equations 1 to 3: U, V, Q, K = SiLU(f1(X)); A = SiLU(QKᵀ + bias); Y = f2(norm(A V) ⊙ U).

    There is no softmax: how many events speak for something is kept. A is divided by the longest
    history instead (the published code's attention), and Y added to X.
    """

    def __init__(self, config: ModelConfig, shape: BlockShape) -> None:
        super().__init__()
        dim, width = config.dim, shape.heads * shape.head_dim
        self.heads = shape.heads
        self.max_length = config.max_length
        self.norm = nn.LayerNorm(dim)
        self.first = nn.Linear(dim, 4 * width, bias=False)
        self.attended_norm = nn.LayerNorm(width)
        self.second = nn.Linear(width, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.distance_bias = nn.Parameter(torch.zeros(config.max_length, shape.heads))
        self.time_bias = TimeBias(shape.heads) if config.time == "gaps" else None
        nn.init.normal_(self.first.weight, std=0.02)
        nn.init.xavier_uniform_(self.second.weight)

    def forward(self, x_BLD: Tensor, visible_B1LL: Tensor, times_BL: Tensor | None) -> Tensor:
        parts = functional.silu(self.first(self.norm(x_BLD))).chunk(4, dim=-1)
        gate_BLD = parts[0]
        value, query, key = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts[1:]
        )
        distance_LL = distances(x_BLD.shape[1], x_BLD.device).clamp(0, self.max_length - 1)
        score_BHLL = query @ key.transpose(2, 3) + self.distance_bias[distance_LL].permute(2, 0, 1)
        if self.time_bias is not None and times_BL is not None:
            score_BHLL = score_BHLL + self.time_bias(times_BL)
        weight_BHLL = functional.silu(score_BHLL) / self.max_length * visible_B1LL
        attended_BLD = (weight_BHLL.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        mixed_BLD = self.dropout(self.attended_norm(attended_BLD) * gate_BLD)
        return x_BLD + self.second(mixed_BLD)

    @property
    def heads_end(self) -> nn.Linear:
        return self.second

    @property
    def inner_end(self) -> None:
        return None

    def coupled(self, columns: Tensor, heads: Tensor, inner: Tensor) -> dict[str, Part]:
        width = self.second.in_features
        return {
            "first.weight": (0, torch.cat([columns + part * width for part in range(4)])),
            "attended_norm.weight": (0, columns),
            "attended_norm.bias": (0, columns),
            "second.weight": (1, columns),
            "distance_bias": (1, heads),
            "time_bias.weight": (1, heads),
        }
