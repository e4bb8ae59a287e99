"""What the model is told of items besides their ids: item_vectors/, in the vocabulary's order.

Shapes: N+1 items (row 0 is padding), T text and I image dimensions, D the model's width.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from recommender.errors import KuberecError
from recommender.sequences import Vocabulary


@dataclass(frozen=True)
class ItemVectors:
    """Attributes:
    text: float32 [N+1, T], row 0 zero; T is 0 where `text.features` is none.
    image: float32 [N+1, I], zeros where an item has none; None without `text.image_column`.
    """

    text: Tensor
    image: Tensor | None = None


class ImageInput(nn.Module):
    """An item's image as a vector of the model's width, to be added to what else is known of it.

    Added after a projection of its own: as linear as one projection of text and image side by
    side, and an item without an image gets a learnt vector in its place.
    """

    vectors: Tensor
    missing: Tensor

    def __init__(self, vectors: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors.float())
        self.register_buffer("missing", (vectors == 0).all(dim=1, keepdim=True), persistent=False)
        self.projection = nn.Linear(vectors.shape[1], dim, bias=False)
        self.default = nn.Parameter(torch.zeros(dim))
        nn.init.normal_(self.projection.weight, std=0.02)

    def forward(self, index: Tensor | None = None) -> Tensor:
        """[..., D] of the items `index`; [N+1, D] without."""
        vectors = self.vectors if index is None else self.vectors[index]
        missing = self.missing if index is None else self.missing[index]
        return self.projection(vectors) + missing * self.default


class Gate(nn.Module):
    """How much of an item is its id, and not its text: sigmoid(a · ln(1 + events) + b), D numbers.

    An item that was never seen in training has an id that nothing was learnt of; the more often it
    was seen, the more its id knows (the idea of DropoutNet, Volkovs et al. 2017, and of gated
    fusion, Arevalo et al. 2017, arXiv:1702.01992, with the number of events as what decides).
    """

    log_events: Tensor

    def __init__(self, log_popularity: Tensor, dim: int) -> None:
        super().__init__()
        # log_popularity is ln((events + 1) / sum): the rarest item of training tells the sum, if
        # one is unseen; otherwise the scale alone differs, which `bias` learns and `of_new` undoes.
        log_events_N1 = (log_popularity - log_popularity[1:].min()).clamp(min=0)[:, None]
        self.register_buffer("log_events", log_events_N1.float(), persistent=False)
        self.slope = nn.Parameter(torch.full((dim,), 0.5))
        self.bias = nn.Parameter(torch.full((dim,), -1.0))

    def forward(self, index: Tensor | None = None) -> Tensor:
        """[..., D] of the items `index`; [N+1, D] without."""
        events = self.log_events if index is None else self.log_events[index]
        return torch.sigmoid(events * self.slope + self.bias)

    def of_new(self) -> Tensor:
        """[D], of an item without events, which is not among ours."""
        events = -math.log(1 + events_of_rarest(self.log_events[1:, 0]))
        return torch.sigmoid(events * self.slope + self.bias)


def events_of_rarest(log_events_N: Tensor) -> int:
    """Events of the rarest item, from each item's ln((events + 1) / (the rarest's events + 1)).

    Events are whole numbers: the least one that makes all of them whole. It is 0 where every item
    has as many, and where none of up to 255 does.
    """
    ratios = log_events_N.double().exp().unique()
    ratios = ratios[ratios <= 32]  # beyond, float32's logarithms no longer tell whole numbers
    for smoothed in range(1, 257):
        counts = ratios * smoothed
        if bool(((counts - counts.round()).abs() < 5e-6 * counts).all()):
            return smoothed - 1
    return 0


def load_item_vectors(vectors_dir: Path, vocabulary: Vocabulary) -> ItemVectors:
    """The vocabulary's vectors of item_vectors/.

    Raises:
        KuberecError: an item of the vocabulary has no row.
    """
    table = pq.read_table(Path(vectors_dir) / "vectors.parquet")
    row = {item: index for index, item in enumerate(table["item_id"].to_pylist())}
    missing = [item for item in vocabulary.items if item not in row]
    if missing:
        raise KuberecError(
            f"{len(missing)} items of the events have no text vector, such as {missing[:3]}: "
            "give them a row in the items table"
        )
    chosen = table.take(pa.array([row[item] for item in vocabulary.items], pa.int64()))
    has_images = "image" in chosen.column_names
    return ItemVectors(
        _with_padding(chosen["vector"]), _with_padding(chosen["image"]) if has_images else None
    )


def _with_padding(column: pa.ChunkedArray) -> Tensor:
    """Rows of equal length below a row of zeros; null is zeros too."""
    rows = column.to_numpy()
    dim = next((len(row) for row in rows if row is not None), 0)
    matrix = np.zeros((len(rows) + 1, dim), np.float32)
    for index, row in enumerate(rows, start=1):
        if row is not None:
            matrix[index] = row
    return torch.from_numpy(matrix)
