"""SequentialRecommender: a causal Transformer over items that are known by id and by text.

Shapes: B batch, L history length, N+1 items (index 0 is padding), D width, H heads.
The item that is read and the item that is scored share one representation:
id embedding + projected text vector, and a projected image vector where items have images. The
block is pre-norm; positions enter as a learned bias on the distance between query and key, in
logarithmic buckets (T5, Raffel et al. 2020, arXiv:1910.10683, section 2.1), so that left padding
changes nothing and any length can be read.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recommender.files import read_json, write_json
from recommender.item_inputs import ImageInput
from recommender.settings import ModelConfig

DISTANCE_BUCKETS = 32


class Block(nn.Module):
    """Pre-norm attention and MLP; `last_only` computes the last position's output alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
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
        self.distance_bias = nn.Parameter(torch.zeros(DISTANCE_BUCKETS, config.heads))

    def forward(
        self, x_BLD: Tensor, allowed_B1LL: Tensor, bucket_LL: Tensor, last_only: bool = False
    ) -> Tensor:
        normed_BLD = self.attention_norm(x_BLD)
        if last_only:
            x_BLD, allowed_B1LL, bucket_LL = x_BLD[:, -1:], allowed_B1LL[:, :, -1:], bucket_LL[-1:]
        query = self.query(normed_BLD[:, -1:] if last_only else normed_BLD)
        key, value = self.key_value(normed_BLD).chunk(2, dim=-1)
        bias_HLL = self.distance_bias[bucket_LL].permute(2, 0, 1)
        bias_BHLL = torch.where(allowed_B1LL, bias_HLL, -1e9)
        attended = functional.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value), attn_mask=bias_BHLL
        )
        x_BLD = x_BLD + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x_BLD + self.dropout(self.mlp(self.mlp_norm(x_BLD)))

    def _split(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class SequentialRecommender(nn.Module):
    """Scores every item as the next one after a history.

    Args:
        config: the shape.
        text_vectors: [N+1, T] vectors of the items' texts, row 0 for padding; T = 0: none.
        log_popularity: [N+1] logarithm of each item's share of the training events: the scores
            of a history without known items.
        image_vectors: [N+1, I], zeros where an item has no image; None: no items have.
    """

    text_vectors: Tensor
    log_popularity: Tensor

    def __init__(
        self,
        config: ModelConfig,
        text_vectors: Tensor,
        log_popularity: Tensor,
        image_vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        items, text_dim = text_vectors.shape
        self.config = config
        self.register_buffer("text_vectors", text_vectors.float())
        self.register_buffer("log_popularity", log_popularity.float())
        self.id_embedding = nn.Embedding(items, config.dim)
        self.text_projection = nn.Linear(text_dim, config.dim, bias=False) if text_dim else None
        self.input_norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.id_embedding.weight, std=0.02)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=0.02)
        # Last, so that all else starts from the same numbers with and without images.
        self.image = None if image_vectors is None else ImageInput(image_vectors, config.dim)

    @property
    def image_vectors(self) -> Tensor | None:
        return None if self.image is None else self.image.vectors

    def item_table(self) -> Tensor:
        """The items' representations, [N+1, D]; row 0 is padding.

        The one place where ids, texts and images meet: training, distillation and export read it.
        """
        table_ND = self.id_embedding.weight
        if self.text_projection is not None:
            table_ND = table_ND + self.text_projection(self.text_vectors)
        return table_ND if self.image is None else table_ND + self.image()

    def encode(self, history_BL: Tensor, table: Tensor, last_only: bool = False) -> Tensor:
        """Hidden states after each position, [B, L, D]; [B, 1, D] with `last_only`.

        `table` is `item_table()`, or a constant copy of it.
        """
        length = history_BL.shape[1]
        position = torch.arange(length, device=history_BL.device)
        distance_LL = position[:, None] - position[None, :]
        # A padding position sees itself: a softmax over nothing would be NaN.
        allowed_B1LL = ((distance_LL >= 0) & (history_BL > 0)[:, None, None, :]) | (
            distance_LL == 0
        )
        bucket_LL = distance_bucket(distance_LL.clamp(min=0))
        x_BLD = self.dropout(self.input_norm(table[history_BL]))
        for index, block in enumerate(self.blocks):
            last = last_only and index == len(self.blocks) - 1
            x_BLD = block(x_BLD, allowed_B1LL, bucket_LL, last_only=last)
        return self.output_norm(x_BLD)

    def forward(self, history_BL: Tensor) -> Tensor:
        """Scores of the next item, float32 [B, N+1]; column 0 means nothing.

        `history_BL`: item indices int64, oldest first, left-padded with 0.
        """
        table = self.item_table()
        return self.encode(history_BL, table, last_only=True)[:, 0] @ table.T


def distance_bucket(distance: Tensor, exact: int = 16, farthest: int = 512) -> Tensor:
    """Buckets 0..DISTANCE_BUCKETS-1 of distances >= 0: one each below `exact`, then logarithmic."""
    scale = (DISTANCE_BUCKETS - exact) / math.log(farthest / exact)
    coarse = exact + (torch.log(distance.clamp(min=exact) / exact) * scale).long()
    return torch.where(distance < exact, distance, coarse.clamp(max=DISTANCE_BUCKETS - 1))


def save_model(model: SequentialRecommender, vocabulary: list[str], directory: Path) -> None:
    """Write model.safetensors, model.json and vocabulary.json into an existing folder."""
    items, text_dim = model.text_vectors.shape
    if len(vocabulary) != items - 1:
        raise ValueError(
            f"the model scores {items - 1} items, the vocabulary has {len(vocabulary)}"
        )
    save_file(model.state_dict(), directory / "model.safetensors")
    description = {
        "config": model.config.model_dump(),
        "items": items - 1,
        "text_dim": text_dim,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if model.image_vectors is not None:
        description["image_dim"] = model.image_vectors.shape[1]
    write_json(directory / "model.json", description)
    write_json(directory / "vocabulary.json", vocabulary)


def load_model(directory: Path) -> SequentialRecommender:
    """The model that `save_model` wrote, in evaluation mode."""
    directory = Path(directory)
    weights = load_file(directory / "model.safetensors")
    config = ModelConfig.model_validate(read_json(directory / "model.json")["config"])
    model = SequentialRecommender(
        config, weights["text_vectors"], weights["log_popularity"], weights.get("image.vectors")
    )
    model.load_state_dict(weights)
    return model.eval()
