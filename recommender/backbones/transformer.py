"""A causal pre-norm Transformer (Vaswani et al. 2017; pre-norm: Xiong et al. 2020, 2002.04745)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.backbones.base import Backbone
from recommender.backbones.positions import DistanceBias, TimeBias, rotate, visible
from recommender.settings import ModelConfig


class Transformer(Backbone):
    """Blocks of attention and MLP; positions by `config.position`, times by `config.time`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(
        self,
        x_BLD: Tensor,
        known_BL: Tensor | None,
        times_BL: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        visible_B1LL = visible(x_BLD.shape[1], known_BL, x_BLD.device)
        for index, block in enumerate(self.blocks):
            last = last_only and index == len(self.blocks) - 1
            x_BLD = block(x_BLD, visible_B1LL, times_BL, only_causal=known_BL is None, last=last)
        return x_BLD


class Block(nn.Module):
    """Attention and MLP; `last` computes the last position's output alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.rotary = config.position == "rotary"
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.feedforward * dim),
            nn.GELU(),
            nn.Linear(config.feedforward * dim, dim),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.distance_bias = None if self.rotary else DistanceBias(config.heads)
        self.time_bias = TimeBias(config.heads) if config.time == "gaps" else None

    def forward(
        self,
        x_BLD: Tensor,
        visible_B1LL: Tensor,
        times_BL: Tensor | None,
        only_causal: bool,
        last: bool,
    ) -> Tensor:
        length = x_BLD.shape[1]
        normed_BLD = self.attention_norm(x_BLD)
        key, value = map(self._split, self.key_value(normed_BLD).chunk(2, dim=-1))
        bias = None if self.distance_bias is None else self.distance_bias(length)[None]
        if last:
            x_BLD, normed_BLD = x_BLD[:, -1:], normed_BLD[:, -1:]
            visible_B1LL = visible_B1LL[:, :, -1:]
            bias = None if bias is None else bias[:, :, -1:]
        if self.time_bias is not None and times_BL is not None:
            times_BHLL = self.time_bias(times_BL, last_only=last)
            bias = times_BHLL if bias is None else bias + times_BHLL
        query = self._split(self.query(normed_BLD))
        if self.rotary:
            query, key = rotate(query, length - query.shape[2]), rotate(key)
        if bias is not None:
            bias = torch.where(visible_B1LL, bias, -1e9)
        if bias is None and only_causal and not last:
            # Said so rather than by a mask, flash attention can be used.
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible_B1LL if bias is None else bias.to(query.dtype)
            )
        x_BLD = x_BLD + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x_BLD + self.dropout(self.mlp(self.mlp_norm(x_BLD)))

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)
