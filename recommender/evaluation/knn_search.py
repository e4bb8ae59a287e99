"""Which item-kNN is the best baseline: a grid, judged on validation.

An exact NDCG@10 does not need every item's score for every user: a target that ten items stand
above has a gain of 0, and the popular items mostly tell. The rest is scored for the users alone
whom they leave open.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from recommender.evaluation.item_knn import ItemKnn, KnnSettings, dense, latest_ages
from recommender.evaluation.metrics import gains, users_at_once
from recommender.sequences import Split

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
SHRINKAGES = sorted({settings.shrinkage for settings in KNN_GRID + RECENT_KNN_GRID})
CUTOFF = 10
STAGES = (256, 1024)  # the most popular items that are scored before more are


class KnnJudge:
    """NDCG@10 of item-kNNs on a split, each history masked.

    Args:
        counts_N1: training events of each item. They say in which order items are scored, and so
            what it costs; the figures do not depend on them.
    """

    def __init__(self, split: Split, counts_N1: np.ndarray) -> None:
        self.items = len(counts_N1) - 1
        self.order = np.argsort(-counts_N1[1:], kind="stable") + 1
        place_N1 = np.full(self.items + 1, -1)
        place_N1[self.order] = np.arange(self.items)
        # Users of a like popular target, so that those at a time have targets side by side.
        users = np.argsort(place_N1[split.targets], kind="stable")
        self.targets = place_N1[split.targets[users]]
        self.ages = latest_ages([split.histories[user] for user in users], self.items)
        self.places = place_N1[self.ages.indices]  # of what is masked

    def __call__(self, knn: ItemKnn) -> float:
        return float(gains(self.ranks(knn), CUTOFF).mean())

    def ranks(self, knn: ItemKnn) -> np.ndarray:
        """Ranks from 1 where they are within the cutoff, else some number beyond it, int64 [U].

        Users are in an order of the judge's own.
        """
        weights = knn.weights(self.ages)
        ordered = knn.kept[:, self.order]
        if not isinstance(ordered, np.ndarray):
            ordered = ordered.tocsc()  # from which columns are taken
        # Copied here, as a product would copy a part of a matrix every time.
        stages = [(*bounds, ordered[:, slice(*bounds)].copy()) for bounds in self._stages()]
        at_once = users_at_once(self.items)
        return np.concatenate(
            [
                self._ranks(slice(start, start + at_once), weights, ordered, stages)
                for start in range(0, len(self.targets), at_once)
            ]
        )

    def _ranks(
        self, rows: slice, weights: Any, ordered: Any, stages: list[tuple[int, int, Any]]
    ) -> np.ndarray:
        weights, targets_B = weights[rows], self.targets[rows]
        masked = self.places[self.ages.indptr[rows.start] :][: weights.nnz]
        masked_row = np.repeat(np.arange(len(targets_B)), np.diff(weights.indptr))
        others = masked != targets_B[masked_row]
        masked, masked_row = masked[others], masked_row[others]

        first = int(targets_B[0])
        near_BK = dense(weights @ ordered[:, first : int(targets_B[-1]) + 1])
        own_B = near_BK[np.arange(len(targets_B)), targets_B - first]

        above_B = np.zeros(len(targets_B), dtype=np.int64)
        open_rows = np.arange(len(targets_B))
        for start, stop, part in stages:
            scores_RK = dense(weights[open_rows] @ part)
            among = np.full(len(targets_B), -1)
            among[open_rows] = np.arange(len(open_rows))
            hidden = (masked >= start) & (masked < stop) & (among[masked_row] >= 0)
            scores_RK[among[masked_row[hidden]], masked[hidden] - start] = -np.inf
            own_R, targets_R = own_B[open_rows], targets_B[open_rows]
            above_B[open_rows] += (scores_RK >= own_R[:, None]).sum(axis=1)
            above_B[open_rows] -= (targets_R >= start) & (targets_R < stop)  # itself
            open_rows = np.flatnonzero(above_B < CUTOFF)
        return above_B + 1

    def _stages(self) -> list[tuple[int, int]]:
        bounds = [0, *(stage for stage in STAGES if stage < self.items), self.items]
        return list(pairwise(bounds))


def best_item_knn(
    similarities: dict[float, Any],
    grid: Sequence[KnnSettings],
    judge: Callable[[ItemKnn], float],
) -> tuple[ItemKnn, dict[str, Any]]:
    """The best item-kNN of `grid` by `judge`, and its settings, JSON-ready.

    Args:
        similarities: of `cosine_similarities`, by every shrinkage of the grid.
    """
    best: tuple[float, ItemKnn, KnnSettings] | None = None
    # Of equals the first counts, by shrinkage, then in the grid's order.
    for settings in sorted(grid, key=lambda settings: settings.shrinkage):
        scorer = ItemKnn(similarities[settings.shrinkage], settings)
        value = judge(scorer)
        if best is None or value > best[0]:
            best = value, scorer, settings
    assert best is not None
    chosen = asdict(best[2])
    if math.isinf(chosen["half_life"]):
        chosen["half_life"] = None  # JSON has no infinity
    return best[1], chosen
