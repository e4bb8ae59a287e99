"""SequentialRecommender: items known by id and by text, a backbone that reads them, scores.

Shapes: B batch, L history length, N+1 items (index 0 is padding), D width.
The item that is read and the item that is scored share one representation: id embedding and
projected text vector, added or gated, and a projected image vector where items have images.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from recommender.backbones.base import make_backbone
from recommender.files import read_json, write_json
from recommender.item_codes import ItemCodes, item_codes_of
from recommender.item_inputs import Gate, ImageInput
from recommender.settings import ModelConfig


class SequentialRecommender(nn.Module):
    """Scores every item as the next one after a history.

    Args:
        config: the shape.
        text_vectors: [N+1, T] vectors of the items' texts, row 0 for padding; T = 0: none.
        log_popularity: [N+1] logarithm of each item's share of the training events: the scores
            of a history without known items.
        image_vectors: [N+1, I], zeros where an item has no image; None: no items have.
        decoder: of backbone hf: the description that a saved model has of it, instead of looking
            for `config.hf.name`.
    """

    text_vectors: Tensor
    log_popularity: Tensor

    def __init__(
        self,
        config: ModelConfig,
        text_vectors: Tensor,
        log_popularity: Tensor,
        image_vectors: Tensor | None = None,
        decoder: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        items, text_dim = text_vectors.shape
        self.config = config
        self.register_buffer("text_vectors", text_vectors.float())
        self.register_buffer("log_popularity", log_popularity.float())
        self.id_embedding = nn.Embedding(items, config.dim)
        self.text_projection = nn.Linear(text_dim, config.dim, bias=False) if text_dim else None
        self.input_norm = nn.LayerNorm(config.dim)
        self.backbone = make_backbone(config, decoder)
        self.output_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.id_embedding.weight, std=0.02)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=0.02)
        # Last, so that all else starts from the same numbers with and without them.
        self.image = None if image_vectors is None else ImageInput(image_vectors, config.dim)
        self.gate = Gate(log_popularity, config.dim) if config.fusion == "gate" else None
        self.item_codes: ItemCodes | None = None

    @property
    def image_vectors(self) -> Tensor | None:
        return None if self.image is None else self.image.vectors

    def item_table(self) -> Tensor:
        """The items' representations, [N+1, D]; row 0 is padding.

        The one place where ids, texts and images meet: training, distillation and export read it.
        """
        return self.item_rows(None)

    def item_rows(self, index: Tensor | None) -> Tensor:
        """The representations of the items `index` (int64, any shape), [..., D]; None: of all."""
        if self.item_codes is None:
            ids = self.id_embedding.weight if index is None else self.id_embedding(index)
            known = self.composed(ids, index)
        else:
            known = self.item_codes(index)
        if self.config.similarity == "cosine":
            known = functional.normalize(known, dim=-1)
        return known

    def composed(self, ids: Tensor, index: Tensor | None) -> Tensor:
        """What ids, texts and images make together of the items `index`, at no set length.

        `ids`: what the ids alone say, [..., D] or broadcast to it.
        """

        def rows(matrix: Tensor) -> Tensor:
            return matrix if index is None else matrix[index]

        known = ids
        if self.gate is not None:
            known = known * self.gate(index)
        if self.text_projection is not None:
            told = self.text_projection(rows(self.text_vectors))
            known = known + (told if self.gate is None else told * (1 - self.gate(index)))
        if self.image is not None:
            known = known + self.image(index)
        return known

    def read_codes(self, codes: ItemCodes) -> None:
        """From now on the item table is what `codes` say, and the ids' own embedding is gone.

        What reads texts and images stays as it is, and trains no more: new items still come from
        their texts (recommender.new_items).
        """
        self.item_codes = codes
        del self.id_embedding
        for part in (self.text_projection, self.image, self.gate):
            if part is not None:
                part.requires_grad_(False)

    def encode(
        self,
        history_BL: Tensor,
        table: Tensor | None,
        last_only: bool = False,
        times_BL: Tensor | None = None,
        right_padded: bool = False,
    ) -> Tensor:
        """Hidden states after each position, [B, L, D]; [B, 1, D] with `last_only`.

        Args:
            history_BL: item indices int64, oldest first, padded with 0.
            table: `item_table()`, or a constant copy of it; None: only the rows that are read are
                computed, for catalogues whose table is too large to make at every step.
            times_BL: when the events were, int64 seconds since 1970, 0 where unknown; read where
                `config.time` says so.
            right_padded: padding is on the right. Being causal then hides it, and attention needs
                no mask. By default it is on the left.
        """
        items_BLD = self.item_rows(history_BL) if table is None else table[history_BL]
        if self.config.time == "none":
            times_BL = None
        elif times_BL is None:  # not told is unknown, which has a weight of its own
            times_BL = torch.zeros_like(history_BL)
        hidden_BLD = self.backbone(
            self.dropout(self.input_norm(items_BLD)),
            None if right_padded else history_BL > 0,
            times_BL,
            last_only,
        )
        hidden_BLD = self.output_norm(hidden_BLD)
        if self.config.similarity == "cosine":
            # Items are of length 1: their product with this is the cosine, over the temperature.
            # (functional.normalize is the same, in three nodes more of a graph.)
            length_BL1 = hidden_BLD.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            hidden_BLD = hidden_BLD / length_BL1 / self.config.temperature
        return hidden_BLD

    def forward(self, history_BL: Tensor, times_BL: Tensor | None = None) -> Tensor:
        """Scores of the next item, float32 [B, N+1]; column 0 means nothing.

        `history_BL`: item indices int64, oldest first, left-padded with 0; `times_BL` as in
        `encode`.
        """
        table = self.item_table()
        return self.encode(history_BL, table, last_only=True, times_BL=times_BL)[:, 0] @ table.T


def save_model(model: SequentialRecommender, vocabulary: list[str], directory: Path) -> None:
    """Write model.safetensors, model.json and vocabulary.json into an existing folder.

    They are all that `load_model` needs, also of a Hugging Face decoder: its description is in
    model.json, its weights, adapters and what they stand on, in model.safetensors.
    """
    items, text_dim = model.text_vectors.shape
    if len(vocabulary) != items - 1:
        raise ValueError(
            f"the model scores {items - 1} items, the vocabulary has {len(vocabulary)}"
        )
    save_file(model.state_dict(), directory / "model.safetensors")
    description: dict[str, Any] = {
        "config": model.config.model_dump(),
        "items": items - 1,
        "text_dim": text_dim,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if model.image_vectors is not None:
        description["image_dim"] = model.image_vectors.shape[1]
    if (decoder := model.backbone.description()) is not None:
        description["decoder"] = decoder
    if model.item_codes is not None:
        description["item_codes"] = model.item_codes.description()
    write_json(directory / "model.json", description)
    write_json(directory / "vocabulary.json", vocabulary)


def load_model(directory: Path) -> SequentialRecommender:
    """The model that `save_model` wrote, in evaluation mode."""
    directory = Path(directory)
    weights = load_file(directory / "model.safetensors")
    description = read_json(directory / "model.json")
    model = SequentialRecommender(
        ModelConfig.model_validate(description["config"]),
        weights["text_vectors"],
        weights["log_popularity"],
        weights.get("image.vectors"),
        description.get("decoder"),
    )
    if (codes := item_codes_of(weights)) is not None:
        model.read_codes(codes)
    model.load_state_dict(weights)
    return model.eval()
