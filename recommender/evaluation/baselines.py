"""What a model must beat: popularity and item-kNN, fitted on the same training histories."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Histories (indices, oldest first) → scores of the next item, [B, N+1]; column 0 means nothing.
# Where windows know when events were, a second argument has each history's times.
Scorer = Callable[..., np.ndarray]


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
    histories: Sequence[np.ndarray], items: int, shrinkage: float = 0.0
) -> np.ndarray:
    """Item-item cosine of the binary user-item matrix, [N+1, N+1], zero diagonal.

    Deshpande and Karypis 2004, "Item-based top-N recommendation algorithms", equation 1, with
    `shrinkage` added to the denominator.
    """
    seen = np.zeros((len(histories), items + 1), dtype=np.float32)
    for row, history in enumerate(histories):
        seen[row, history] = 1.0
    seen[:, 0] = 0.0
    together = seen.T @ seen
    norm = np.sqrt(np.diag(together))
    similarity = together / np.maximum(np.outer(norm, norm) + shrinkage, 1e-9)
    np.fill_diagonal(similarity, 0.0)
    return similarity


def item_knn(similarity: np.ndarray, settings: KnnSettings) -> Scorer:
    """Scores are the summed similarities to the history's items, recent ones weighing more."""
    kept = similarity.copy()
    if settings.neighbours < kept.shape[0]:
        # Column j of `kept` holds how much each history item speaks for j: keep, for each
        # history item (row), its nearest neighbours.
        weakest = np.partition(kept, -settings.neighbours, axis=1)[:, -settings.neighbours, None]
        kept[kept < weakest] = 0.0

    def score(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        weights = np.zeros((len(histories), kept.shape[0]), dtype=np.float32)
        for row, history in enumerate(histories):
            age = np.arange(len(history))[::-1]
            weights[row, history] = 0.5 ** (age / settings.half_life)
        return weights @ kept

    return score


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
