"""What a model must beat: popularity and item-kNN, fitted on the same training histories."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Histories (indices, oldest first) → scores of the next item, [B, N+1]; column 0 means nothing.
# Where windows know when events were, a second argument has each history's times.
Scorer = Callable[..., np.ndarray]


CELLS = 2**24  # entries of the similarity matrix that are made at a time
DENSE_ITEMS, DENSE_SHARE = 10_000, 0.05


def popularity(counts: np.ndarray) -> Scorer:
    """Every user gets the items with the most training events; `counts` is [N+1]."""

    def score(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        return np.tile(counts.astype(np.float64), (len(histories), 1))

    return score


@dataclass(frozen=True)
class KnnSettings:
    """One item-kNN: how many neighbours an item keeps, and how fast a history is forgotten."""

    neighbours: int
    half_life: float  # events after which an event of the history weighs half; inf: never
    shrinkage: float  # added to the norms: similarities of rare items shrink


KNN_GRID = [  # the classic one, which forgets nothing
    KnnSettings(neighbours, math.inf, shrinkage)
    for neighbours in (20, 50, 100, 200)
    for shrinkage in (0.0, 20.0)
]
RECENT_KNN_GRID = [
    KnnSettings(neighbours, half_life, 0.0)
    for neighbours in (100, 1000)
    for half_life in (1.0, 2.0, 4.0, 8.0, 16.0)
]


def cosine_similarity(
    histories: Sequence[np.ndarray], items: int, shrinkage: float = 0.0, most: int = 1000
) -> Any:
    """Item-item cosine of the binary user-item matrix, scipy CSR float32 [N+1, N+1].

    Deshpande and Karypis 2004, "Item-based top-N recommendation algorithms", equation 1, with
    `shrinkage` added to the denominator. An item is no neighbour of itself.

    Args:
        most: neighbours that a row keeps, and those that are as near as the last of them.

    Returns:
        Each row's nearest neighbours first: what `item_knn` relies on.
    """
    from scipy.sparse import csr_matrix, vstack

    unique = [np.unique(history) for history in histories]
    seen = _rows([(items_, np.ones(len(items_), np.float32)) for items_ in unique], items)
    of_item = seen.T.tocsr()
    norm = np.sqrt(np.diff(of_item.indptr))
    # At most so many entries has a row of the product: those of everyone who has the item.
    length = np.diff(seen.indptr)
    entries = np.minimum(of_item @ length, items)
    blocks, start = [], 0
    while start < items + 1:
        stop = start + max(1, int(np.searchsorted(np.cumsum(entries[start:]), CELLS)))
        block = (of_item[start:stop] @ seen).tocoo()
        row, column = block.row + start, block.col
        value = block.data / np.maximum(norm[row] * norm[column] + shrinkage, 1e-9)
        kept = (row != column) & (row > 0) & (column > 0)
        block = csr_matrix(
            (value[kept].astype(np.float32), (block.row[kept], column[kept])), block.shape
        )
        blocks.append(_nearest(_nearest_first(block), most))
        start = stop
    return vstack(blocks, format="csr")


def item_knn(similarity: Any, settings: KnnSettings) -> Scorer:
    """Scores are the summed similarities to the history's items, recent ones weighing more."""
    # For each history item (row) its nearest neighbours; what is dense is added up faster dense.
    kept = _nearest(similarity, settings.neighbours)
    items = kept.shape[0] - 1
    if items <= DENSE_ITEMS and kept.nnz > DENSE_SHARE * items**2:
        kept = kept.toarray()

    def score(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        latest = []
        for history in histories:
            known, age = np.unique(history[::-1], return_index=True)  # the latest of an item counts
            latest.append((known, (0.5 ** (age / settings.half_life)).astype(np.float32)))
        scores = _rows(latest, items) @ kept
        return scores if isinstance(scores, np.ndarray) else scores.toarray()

    return score


def _rows(rows: Sequence[tuple[np.ndarray, np.ndarray]], items: int) -> Any:
    """(columns, values) of each row as scipy CSR [len(rows), N+1]."""
    from scipy.sparse import csr_matrix

    indptr = np.concatenate([[0], np.cumsum([len(columns) for columns, _ in rows])])
    columns = np.concatenate([columns for columns, _ in rows])
    values = np.concatenate([values for _, values in rows])
    return csr_matrix((values, columns, indptr), shape=(len(rows), items + 1))


def _nearest_first(matrix: Any) -> Any:
    """The same CSR, each row's entries from the greatest on."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, row))
    return type(matrix)((matrix.data[order], matrix.indices[order], matrix.indptr), matrix.shape)


def _nearest(matrix: Any, most: int) -> Any:
    """A CSR whose rows are `_nearest_first`, cut to `most` entries and those equal to the last."""
    length = np.diff(matrix.indptr)
    if not len(length) or length.max(initial=0) <= most:
        return matrix
    last = np.zeros(len(length), np.float32)
    cut = length > most
    last[cut] = matrix.data[matrix.indptr[:-1][cut] + most - 1]
    row = np.repeat(np.arange(len(length)), length)
    kept = matrix.data >= last[row]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(length)))])
    return type(matrix)((matrix.data[kept], matrix.indices[kept], indptr), matrix.shape)


def tuned_item_knn(
    histories: Sequence[np.ndarray],
    items: int,
    grid: Sequence[KnnSettings],
    judge: Callable[[Scorer], float],
) -> tuple[Scorer, dict[str, Any]]:
    """The best item-kNN of `grid` by `judge` (validation NDCG@10), and its settings."""
    best: tuple[float, Scorer, KnnSettings] | None = None
    for shrinkage in sorted({settings.shrinkage for settings in grid}):
        similarity = cosine_similarity(histories, items, shrinkage)
        for settings in (entry for entry in grid if entry.shrinkage == shrinkage):
            scorer = item_knn(similarity, settings)
            value = judge(scorer)
            if best is None or value > best[0]:
                best = value, scorer, settings
    assert best is not None
    chosen = asdict(best[2])
    if math.isinf(chosen["half_life"]):
        chosen["half_life"] = None  # JSON has no infinity
    return best[1], chosen
