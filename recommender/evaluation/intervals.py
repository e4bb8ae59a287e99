"""Bootstrap intervals over users: how far a mean would move with other users of the same kind.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; the interval is BCa, bias-corrected
and accelerated (chapter 14), whose coverage is right to second order also where gains are as skewed
as those of a small slice are. Of a difference between two rankers a test of signs is asked too.
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


def paired_interval(
    differences_U: np.ndarray, found: Bootstrap, confidence: float, seed: int
) -> tuple[float, float]:
    """The interval of a mean paired difference; it reaches 0 unless chance is ruled out twice.

    Resamples hold the signs that were seen: of five users who differ, all for the worse, hardly one
    has no loss, though five equal signs are common. So were the rankers alike, each user's
    difference could as well have the other sign, and the share of random signs with as great a mean
    must be below the tail of `confidence` (the randomisation test: Fisher 1935, "The Design of
    Experiments", section 21; Smucker, Allan and Carterette 2007, CIKM, of rankers).

    Args:
        differences_U: one a user, of which `found` is the bootstrap.
    """
    low, high = found.interval(confidence)
    if low <= 0 <= high:
        return low, high
    sizes, counts = np.unique(np.abs(differences_U[differences_U != 0]), return_counts=True)
    rng = np.random.default_rng(seed)
    most, tries = abs(float(np.sum(differences_U))) * (1 - 1e-9), len(found.means)
    step, as_great = max(1, CHUNK // len(sizes)), 0
    for start in range(0, tries, step):
        plus = rng.binomial(counts, 0.5, size=(min(step, tries - start), len(sizes)))
        as_great += int(((2 * plus - counts) @ sizes >= most).sum())
    # The signs that were seen are one try (Phipson and Smyth 2010, SAGMB 9(1)).
    if (as_great + 1) / (tries + 1) <= (1 - confidence) / 2:
        return low, high
    return min(low, 0.0), max(high, 0.0)


def _acceleration(deviations: np.ndarray, counts: np.ndarray) -> float:
    """Equation 14.15 for a mean: Σ d³ / (6 (Σ d²)^1.5) of the jackknife's deviations."""
    spread = float(counts @ deviations**2)
    return float(counts @ deviations**3) / (6 * spread**1.5) if spread > 0 else 0.0
