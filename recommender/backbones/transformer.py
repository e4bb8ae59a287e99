"""A causal pre-norm Transformer (Vaswani et al. 2017; pre-norm: Xiong et al. 2020, 2002.04745)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.backbones.base import Backbone, BackboneBlock, Part
from recommender.backbones.positions import (
    DistanceBias,
    TimeBias,
    rotate,
    visible,
    visible_to_last,
)
from recommender.settings import BlockShape, ModelConfig


class Transformer(Backbone):
    """Blocks of attention and MLP; positions by `config.position`, times by `config.time`."""

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
        sees = visible_to_last if last_only and len(self.blocks) == 1 else visible
        visible_B1LL = sees(x_BLD.shape[1], known_BL, x_BLD.device)
        for index, block in enumerate(self.blocks):
            last = last_only and index == len(self.blocks) - 1
            x_BLD = block(x_BLD, visible_B1LL, times_BL, only_causal=known_BL is None, last=last)
        return x_BLD


class Block(BackboneBlock):
    """Attention and MLP; `last` computes the last position's output alone."""

    def __init__(self, config: ModelConfig, shape: BlockShape) -> None:
        super().__init__()
        assert shape.inner is not None  # ModelConfig has checked it
        dim, width = config.dim, shape.heads * shape.head_dim
        self.heads = shape.heads
        self.rotary = config.position == "rotary"
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, width)
        self.key_value = nn.Linear(dim, 2 * width)
        self.out = nn.Linear(width, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, shape.inner),
            Gelu(),
            nn.Linear(shape.inner, dim),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.distance_bias = None if self.rotary else DistanceBias(shape.heads)
        self.time_bias = TimeBias(shape.heads) if config.time == "gaps" else None

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
        if self.rotary and last:  # its query is turned by 0 where positions count from it
            key = rotate(key, 1 - length)
        elif self.rotary:
            query, key = rotate(query), rotate(key)
        if bias is not None:
            bias = torch.where(visible_B1LL, bias, -1e9)
        if torch.compiler.is_exporting():
            # The exporter takes the function below apart into twice as many nodes.
            score = (query * query.shape[-1] ** -0.5) @ key.mT
            score = torch.where(visible_B1LL, score, -1e9) if bias is None else score + bias
            attended = score.softmax(dim=-1) @ value
        elif bias is None and only_causal and not last:
            # Said so rather than by a mask, flash attention can be used.
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible_B1LL if bias is None else bias.to(query.dtype)
            )
        x_BLD = x_BLD + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x_BLD + self.dropout(self.mlp(self.mlp_norm(x_BLD)))

    @property
    def heads_end(self) -> nn.Linear:
        return self.out

    @property
    def inner_end(self) -> nn.Linear:
        end = self.mlp[2]
        assert isinstance(end, nn.Linear)
        return end

    def coupled(self, columns: Tensor, heads: Tensor, inner: Tensor) -> dict[str, Part]:
        mlp = {"mlp.0.weight": (0, inner), "mlp.0.bias": (0, inner), "mlp.2.weight": (1, inner)}
        both = torch.cat([columns, columns + self.out.in_features])  # keys, then values
        return mlp | {
            "query.weight": (0, columns),
            "query.bias": (0, columns),
            "key_value.weight": (0, both),
            "key_value.bias": (0, both),
            "out.weight": (1, columns),
            "distance_bias.weight": (1, heads),
            "time_bias.weight": (1, heads),
        }

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Gelu(nn.GELU):
    """As torch computes it; exported in the one form that ONNX Runtime makes a single node of."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return input * 0.5 * (1 + torch.erf(input / 2**0.5))
        return super().forward(input)
