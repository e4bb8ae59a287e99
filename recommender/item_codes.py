"""Items as a few bytes each: a product-quantised item table.

An item's row is M pieces, one from each codebook, side by side; what is kept of an item is which
(Jégou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search", TPAMI 33(1); for
sequential recommenders RecJPQ, Petrov and Macdonald 2024, WSDM, arXiv:2312.06165).

Shapes: N+1 items (row 0 is padding), M pieces, C centroids of each, D the model's width.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.row_codes import nearest_centroids


class ItemCodes(nn.Module):
    """The item table of a model whose items are codes.

    Args:
        codes: uint8 [N+1, M].
        codebooks: float32 [M, C, D / M]; they train, the codes stay.
        lengths: [N+1], of the rows before they were brought to length 1; only where scores are
            cosines. Scoring needs none: they tell what of a row is its text's (`new_items`).
    """

    codes: Tensor
    lengths: Tensor | None

    def __init__(self, codes: Tensor, codebooks: Tensor, lengths: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("lengths", lengths)
        self.codebooks = nn.Parameter(codebooks)

    def forward(self, index: Tensor | None = None) -> Tensor:
        """[..., D] of the items `index`; [N+1, D] without."""
        return self.decode(self.codes if index is None else self.codes[index])

    def decode(self, codes: Tensor) -> Tensor:
        """The rows of codes: uint8 [..., M] to float32 [..., D]."""
        pieces, centroids, _ = self.codebooks.shape
        first_M = torch.arange(pieces, device=codes.device) * centroids
        rows = functional.embedding(codes.long() + first_M, self.codebooks.flatten(0, 1))
        return rows.flatten(-2)

    def nearest(self, rows_nD: np.ndarray) -> np.ndarray:
        """Rows that have no codes as the nearest centroids make them, float32 [n, D]."""
        books_MCW = self.codebooks.detach().cpu().numpy()
        codes_nM = nearest_centroids(rows_nD, books_MCW)
        return books_MCW[np.arange(len(books_MCW)), codes_nM].reshape(rows_nD.shape)

    def description(self) -> dict[str, Any]:
        """JSON-ready, for who reads model.json."""
        pieces, centroids, _ = self.codebooks.shape
        return {"kind": "pq", "subvectors": pieces, "centroids": centroids}


def item_codes_of(weights: dict[str, Tensor]) -> ItemCodes | None:
    """The module that a saved model's weights have; None where its items are no codes."""
    codes = weights.get("item_codes.codes")
    if codes is None:
        return None
    return ItemCodes(codes, weights["item_codes.codebooks"], weights.get("item_codes.lengths"))
