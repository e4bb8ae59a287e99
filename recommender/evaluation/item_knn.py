"""Item-kNN: what is like the items of the history (Deshpande and Karypis 2004).

Shapes: B histories, N+1 items (index 0 means nothing). Matrices of items are scipy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CELLS = 2**24  # entries of the similarity matrix that are made at a time
DENSE_ITEMS, DENSE_SHARE = 10_000, 0.05


@dataclass(frozen=True)
class KnnSettings:
    """One item-kNN: how many neighbours an item keeps, and how fast a history is forgotten."""

    neighbours: int
    half_life: float  # events after which an event of the history weighs half; inf: never
    shrinkage: float  # added to the norms: similarities of rare items shrink


class ItemKnn:
    """A scorer: the summed similarities to the history's items, recent ones weighing more.

    Args:
        similarity: of `cosine_similarities`, each row's nearest first.

    Attributes:
        kept: for each history item (row) its nearest neighbours, [N+1, N+1] float32: CSR, or a
            numpy array where it is so dense that this adds up faster.
    """

    def __init__(self, similarity: Any, settings: KnnSettings) -> None:
        self.half_life = settings.half_life
        self.kept = _nearest(similarity, settings.neighbours)
        items = self.kept.shape[0] - 1
        if items <= DENSE_ITEMS and self.kept.nnz > DENSE_SHARE * items**2:
            self.kept = self.kept.toarray()

    def __call__(
        self, histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        weights = self.weights(latest_ages(histories, self.kept.shape[0] - 1))
        return dense(weights @ self.kept)

    def weights(self, ages: Any) -> Any:
        """What each item of the histories weighs, CSR float32 [B, N+1]; `ages`: `latest_ages`."""
        weighed = (0.5 ** (ages.data / self.half_life)).astype(np.float32)
        return type(ages)((weighed, ages.indices, ages.indptr), shape=ages.shape)


def dense(matrix: Any) -> np.ndarray:
    """A product of sparse and whatever as numpy array."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def latest_ages(histories: Sequence[np.ndarray], items: int) -> Any:
    """How many events ago an item was there last, CSR int64 [B, N+1]; 0, the latest, is stored."""
    from scipy.sparse import csr_matrix

    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    if not lengths.sum():
        return csr_matrix((len(lengths), items + 1), dtype=np.int64)
    # Latest first, so that the first of an item's events is its latest.
    events = np.concatenate([history[::-1] for history in histories])
    row = np.repeat(np.arange(len(lengths)), lengths)
    age = np.arange(len(events)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    cell, first = np.unique(row * (items + 1) + events, return_index=True)
    counts = np.bincount(cell // (items + 1), minlength=len(lengths))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix((age[first], cell % (items + 1), indptr), shape=(len(lengths), items + 1))


def cosine_similarities(
    histories: Sequence[np.ndarray],
    items: int,
    shrinkages: Sequence[float] = (0.0,),
    most: int = 1000,
) -> dict[float, Any]:
    """Item-item cosine of the binary user-item matrix by shrinkage, CSR float32 [N+1, N+1].

    Deshpande and Karypis 2004, "Item-based top-N recommendation algorithms", equation 1, with the
    shrinkage added to the denominator. An item is no neighbour of itself.

    Args:
        most: neighbours that a row keeps, and those that are as near as the last of them.

    Returns:
        Each row's nearest neighbours first: what `ItemKnn` relies on.
    """
    from scipy.sparse import csr_matrix, vstack

    seen = latest_ages(histories, items)
    seen = csr_matrix((np.ones(seen.nnz, np.float32), seen.indices, seen.indptr), seen.shape)
    of_item = seen.T.tocsr()
    norm = np.sqrt(np.diff(of_item.indptr))
    # At most so many entries has a row of the product: those of everyone who has the item.
    length = np.diff(seen.indptr)
    entries = np.minimum(of_item @ length, items)
    blocks: dict[float, list[Any]] = {shrinkage: [] for shrinkage in shrinkages}
    start = 0
    while start < items + 1:
        stop = start + max(1, int(np.searchsorted(np.cumsum(entries[start:]), CELLS)))
        block = of_item[start:stop] @ seen
        row, column = np.repeat(np.arange(start, stop), np.diff(block.indptr)), block.indices
        for shrinkage, parts in blocks.items():
            value = block.data / np.maximum(norm[row] * norm[column] + shrinkage, 1e-9)
            value[row == column] = 0.0
            similar = csr_matrix((value.astype(np.float32), column, block.indptr), block.shape)
            similar = similar.copy()  # the next shrinkage needs the block as it is
            similar.eliminate_zeros()
            parts.append(_nearest(_nearest_first(similar), most))
        start = stop
    return {shrinkage: vstack(parts, format="csr") for shrinkage, parts in blocks.items()}


def _nearest_first(matrix: Any) -> Any:
    """The same CSR of positive float32, each row's entries from the greatest on."""
    # Of positive floats the bits ascend as the values do: one sort moves values and columns.
    bits = ~matrix.data.view(np.uint32)
    keys = bits.astype(np.uint64) << np.uint64(32) | matrix.indices.astype(np.uint64)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        keys[start:stop].sort()
    values = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    columns = (keys & np.uint64(2**32 - 1)).astype(matrix.indices.dtype)
    return type(matrix)((values, columns, matrix.indptr), matrix.shape)


def _nearest(matrix: Any, most: int) -> Any:
    """A CSR whose rows are `_nearest_first`, cut to `most` entries and those equal to the last."""
    length = np.diff(matrix.indptr)
    if not len(length) or length.max(initial=0) <= most:
        return matrix
    last = np.zeros(len(length), np.float32)
    cut = length > most
    last[cut] = matrix.data[matrix.indptr[:-1][cut] + most - 1]
    kept = matrix.data >= np.repeat(last, length)
    row = np.repeat(np.arange(len(length)), length)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(length)))])
    return type(matrix)((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape)
