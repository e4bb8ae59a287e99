"""What scores, and the plainest of what a model must beat; item-kNN: knn_search.py."""

from collections.abc import Callable, Sequence

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
