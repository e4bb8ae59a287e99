"""One pass of a scorer over a split: all that any measure of it needs, a few numbers a user.

Shapes: U users, B users at a time, N+1 items (column 0 means nothing).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recommender.evaluation.baselines import Scorer
from recommender.evaluation.metrics import COVERAGE_AT, mask_history, target_ranks, users_at_once
from recommender.sequences import Split


@dataclass(frozen=True)
class Ranking:
    """What a scorer makes of each user of a split.

    Attributes:
        ranks: of the target from 1, the user's history masked, int64 [U].
        unmasked: the same with nothing masked, int64 [U].
        shown: the ten best items that are not masked, best first, int64 [U, 10]; 0: there is none.
        confidence: softmax probability of the first of them among those not masked, float [U].
    """

    ranks: np.ndarray
    unmasked: np.ndarray
    shown: np.ndarray
    confidence: np.ndarray

    def of(self, users: np.ndarray) -> "Ranking":
        """The rows of some users: a mask [U], or their indices."""
        return Ranking(
            self.ranks[users], self.unmasked[users], self.shown[users], self.confidence[users]
        )


def rank_users(scorer: Scorer, split: Split, items: int) -> Ranking:
    """Rank all `items` for each user of `split`, as many at a time as memory allows."""
    parts = [
        _rank(scores_BN, histories, targets_B)
        for scores_BN, histories, targets_B in _scored(scorer, split, items)
    ]
    return Ranking(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def masked_ranks(scorer: Scorer, split: Split, items: int) -> np.ndarray:
    """Only the ranks of `rank_users`, without what is shown: for choosing settings.

    Nothing is copied: of those that score as high as the target, the history's are taken off.
    """
    ranks = []
    for scores_BN, histories, targets_B in _scored(scorer, split, items):
        ranks_B = target_ranks(scores_BN[:, 1:], targets_B - 1)
        for row, history in enumerate(histories):
            others = np.unique(history[history != targets_B[row]])
            ranks_B[row] -= (scores_BN[row, others] >= scores_BN[row, targets_B[row]]).sum()
        ranks.append(ranks_B)
    return np.concatenate(ranks)


def top_items(masked_BN: np.ndarray, count: int = COVERAGE_AT) -> np.ndarray:
    """The best items of each row, best first, int64 [B, count]; 0 where fewer are not masked."""
    width = min(count, masked_BN.shape[1] - 1)
    last = masked_BN.shape[1] - width
    best_BK = np.argpartition(masked_BN, last, axis=1)[:, last:]
    scores_BK = np.take_along_axis(masked_BN, best_BK, axis=1)
    order_BK = np.argsort(-scores_BK, axis=1, kind="stable")
    best_BK = np.take_along_axis(best_BK, order_BK, axis=1)
    best_BK[np.isneginf(np.take_along_axis(scores_BK, order_BK, axis=1))] = 0
    return np.pad(best_BK, ((0, 0), (0, count - width)))


def _scored(scorer: Scorer, split: Split, items: int):  # type: ignore[no-untyped-def]
    at_once = users_at_once(items)
    for start in range(0, len(split), at_once):
        rows = slice(start, start + at_once)
        histories = split.histories[rows]
        yield score(scorer, histories, split_times(split, rows)), histories, split.targets[rows]


def split_times(split: Split, rows: slice) -> Sequence[np.ndarray] | None:
    """When the events of the rows' histories were; None where windows do not say."""
    return None if split.times is None else split.times[rows]


def score(
    scorer: Scorer, histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None
) -> np.ndarray:
    """The scorer's scores; times are given to it where there are any."""
    return scorer(histories) if times is None else scorer(histories, times)


def _rank(
    scores_BN: np.ndarray, histories: Sequence[np.ndarray], targets_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    unmasked_B = target_ranks(scores_BN[:, 1:], targets_B - 1)
    masked_BN = mask_history(scores_BN, histories, targets_B)
    ranks_B = target_ranks(masked_BN, targets_B)
    shown_BK = top_items(masked_BN)
    best_B1 = masked_BN.max(axis=1, keepdims=True)
    np.subtract(masked_BN, best_B1, out=masked_BN)
    np.exp(masked_BN, out=masked_BN)
    return ranks_B, unmasked_B, shown_BK, 1.0 / masked_BN.sum(axis=1, dtype=np.float64)
