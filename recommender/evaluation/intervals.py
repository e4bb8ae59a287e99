"""Bootstrap intervals over users: how far a mean would move with other users of the same kind.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; the interval is BCa, bias-corrected
and accelerated (chapter 14), whose coverage is right to second order also where gains are as skewed
as those of a small slice are.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CHUNK = 2**24  # cells of the table of resamples × distinct values
NORMAL = NormalDist()


@dataclass(frozen=True)
class Bootstrap:
    """The resampled means of one value a user.

    Attributes:
        mean: of the users.
        means: sorted means of the resamples, float64 [R].
        acceleration: of BCa, the skewness of the mean's influence values.
    """

    mean: float
    means: np.ndarray
    acceleration: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The BCa interval: of that share of such samples of users it holds the true mean."""
        if self.means[0] == self.means[-1]:
            return float(self.means[0]), float(self.means[-1])
        # The middle of equal means counts as half below: gains are few values, so ties are many.
        below = np.searchsorted(self.means, self.mean, side="left")
        not_above = np.searchsorted(self.means, self.mean, side="right")
        share = (below + not_above) / (2 * len(self.means))
        bias = NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9))
        low, high = (
            self._quantile(bias, NORMAL.inv_cdf(tail))
            for tail in ((1 - confidence) / 2, (1 + confidence) / 2)
        )
        return low, high

    def _quantile(self, bias: float, normal: float) -> float:
        moved = bias + (bias + normal) / (1 - self.acceleration * (bias + normal))
        return float(np.quantile(self.means, NORMAL.cdf(moved)))


def bootstrap(values_U: np.ndarray, resamples: int, seed: int) -> Bootstrap:
    """Resample users with replacement; for a difference, pass each user's difference (paired).

    Users with equal values are drawn together, by one multinomial draw over the distinct values:
    the same distribution, at a cost that depends on how many values there are (NDCG@10 has 11),
    not on how many users.

    Raises:
        ValueError: there are no users.
    """
    if not len(values_U):
        raise ValueError("nothing can be resampled: there are no users")
    values, counts = np.unique(np.asarray(values_U, dtype=np.float64), return_counts=True)
    users = len(values_U)
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // len(values))
    means = np.concatenate(
        [
            rng.multinomial(users, counts / users, size=min(step, resamples - start)) @ values
            for start in range(0, resamples, step)
        ]
    )
    mean = float(counts @ values / users)
    return Bootstrap(mean, np.sort(means / users), _acceleration(values - mean, counts))


def _acceleration(deviations: np.ndarray, counts: np.ndarray) -> float:
    """Equation 14.15 for a mean: Σ d³ / (6 (Σ d²)^1.5) of the jackknife's deviations."""
    spread = float(counts @ deviations**2)
    return float(counts @ deviations**3) / (6 * spread**1.5) if spread > 0 else 0.0
