"""One-sided tests of two versions' counts, and bounds on means. Pure functions, exact where told.

A p-value is the chance of a finding at least this far beyond the limit although the canary keeps
it. Counts may be fractions (Prometheus extrapolates): they are rounded in the canary's favour.
"""

import math
from typing import Any

# Stable's own rate is known up to this chance of being wrong, which is added to the p-value.
_BEYOND = 1e-9
_RATES = 33  # of stable, at which the p-value is computed
_WIDEST = 12  # standard deviations of a Poisson count that are summed over; beyond is < 1e-12


def excess(
    canary_events: float,
    canary_trials: float,
    stable_events: float,
    stable_trials: float,
    margin: float,
) -> float:
    """P-value against "the canary's rate of events is at most `margin` above stable's".

    The events are taken as Poisson, as rare ones are; where they are not rare a binomial count
    scatters less, and the test is cautious. The statistic is the difference of both rates less the
    margin, by its standard error under the hypothesis (the score test; Farrington and Manning 1990,
    Statistics in Medicine 9:1447; for Poisson rates Krishnamoorthy and Thomson 2004, J. Statistical
    Planning and Inference 119:23). Its normal approximation is far off for few events in the tail
    where a rollout tests, so that its distribution is summed exactly, for every rate that stable
    may have by its own count, and the largest p-value is taken (Berger and Boos 1994, JASA
    89:1012).

    Args:
        canary_trials, stable_trials: requests or rows.
        margin: share of the trials, >= 0.

    Returns:
        1.0 where a side has less than one trial, which is no evidence (and beside which no count
        of the canary's would be extreme), or where the canary is within the margin.
    """
    import numpy as np
    from scipy import special

    if min(canary_trials, stable_trials) < 1:
        return 1.0
    seen, background = math.floor(canary_events + 1e-9), math.ceil(stable_events - 1e-9)
    trials = (canary_trials, stable_trials)
    found = float(_score(seen, background, *trials, margin))
    if found <= 0:
        return 1.0
    low = special.gammaincinv(background, _BEYOND / 2) if background else 0.0
    high = special.gammainccinv(background + 1, _BEYOND / 2)
    likeliest = _mean(seen, background, *trials, margin)
    means = np.append(np.linspace(low, high, _RATES), likeliest)
    width = _WIDEST * math.sqrt(high + 1) + _WIDEST
    counts = np.arange(max(math.floor(low - width), 0), math.ceil(high + width))
    fewest = _fewest(found, counts, trials, margin)
    # Stable's chance of each count, and the canary's of as many as are extreme beside it: the tail
    # of a Poisson distribution is an incomplete gamma function.
    stables = np.exp(
        special.xlogy(counts[None, :], means[:, None])
        - means[:, None]
        - special.gammaln(counts + 1.0)[None, :]
    )
    canarys = (means[:, None] / stable_trials + margin) * canary_trials
    chances = stables * special.gammainc(fewest[None, :], canarys)
    return float(min(chances.sum(axis=1).max() + _BEYOND, 1.0))


def _mean(seen: Any, background: Any, canary: float, stable: float, margin: float) -> Any:
    """Likeliest mean of stable's count where the canary's rate is exactly `margin` above its.

    With r stable's rate it solves stable_events / r + canary_events / (r + margin) = all trials.
    """
    import numpy as np

    total = canary + stable
    half = (seen + background - total * margin) / (2 * total)
    rate = half + np.sqrt(half**2 + background * margin / total)
    return stable * np.maximum(rate, 0.0)


def _score(seen: Any, background: Any, canary: float, stable: float, margin: float) -> Any:
    import numpy as np

    rate = _mean(seen, background, canary, stable, margin) / stable
    variance = (rate + margin) / canary + rate / stable
    difference = seen / canary - background / stable - margin
    return difference / np.sqrt(np.maximum(variance, 1e-300))


def _fewest(found: float, counts: Any, trials: tuple[float, float], margin: float) -> Any:
    """For each of stable's counts the canary's lowest that is at least as extreme as `found`."""
    import numpy as np

    low = np.zeros(len(counts), dtype=np.int64)  # not extreme, or 0
    high = np.full(len(counts), 16, dtype=np.int64)
    near = found * (1 - 1e-9)
    while (_score(high, counts, *trials, margin) < near).any():
        high *= 2
    while (high - low > 1).any():
        middle = (low + high) // 2
        extreme = _score(middle, counts, *trials, margin) >= near
        high, low = np.where(extreme, middle, high), np.where(extreme, low, middle)
    return high


def at_least(events: float, trials: float, share: float) -> float:
    """P-value against "the rate of events is at most `share`": one Poisson count, exact."""
    from scipy import special

    if trials <= 0:
        return 1.0
    seen = math.floor(events + 1e-9)
    return float(special.gammainc(seen, trials * share)) if seen > 0 else 1.0


def exceedances(
    canary_beyond: float, canary_trials: float, stable_beyond: float, stable_trials: float
) -> float:
    """P-value against "beyond a limit taken from stable's sample, the canary is not more often".

    The limit is an order statistic of stable's sample with `stable_beyond` of its values above it.
    Whatever the distribution of the durations, the share of all of stable's beyond such a limit is
    distributed as Beta(stable_beyond + 1, stable_trials - stable_beyond): how far the sample's
    quantile may be from the true one is in there. If the canary's share is no larger, its count is
    at most Beta-binomial (the precedence test: Nelson 1963, Technometrics 5:491; exceedances:
    Epstein 1954, Annals of Mathematical Statistics 25:762).
    """
    import numpy as np
    from scipy import special

    n, beyond = math.floor(canary_trials), math.floor(canary_beyond + 1e-9)
    m, above = math.floor(stable_trials), math.ceil(stable_beyond - 1e-9)
    if n <= 0 or m <= 0:
        return 1.0
    above = min(above, m - 1)
    a, b = above + 1, m - above
    if beyond <= n * a / (a + b):
        return 1.0
    counts = np.arange(min(beyond, n), n + 1)
    logs = (
        special.betaln(counts + a, n - counts + b)
        - special.betaln(a, b)
        - special.betaln(counts + 1, n - counts + 1)
        - math.log(n + 1)
    )
    return float(min(np.exp(logs).sum(), 1.0))


def mean_below(mean: float, limit: float, count: int) -> float:
    """P-value against "the mean of values in 0..1 is at least `limit`".

    exp(-count * KL(mean, limit)), with KL the relative entropy of two coins: an upper bound that
    holds for any distribution in 0..1, however skewed (Hoeffding 1963, JASA 58:13, theorem 1). The
    limit at which it reaches a level is the upper confidence bound of the mean.
    """
    if count <= 0 or mean >= limit:
        return 1.0
    if limit >= 1.0:
        return 0.0
    mean = max(mean, 0.0)
    first = mean * math.log(mean / limit) if mean > 0 else 0.0
    return math.exp(-count * (first + (1 - mean) * math.log((1 - mean) / (1 - limit))))


def mostly_below(below: int, count: int) -> float:
    """P-value against "at least half of all values reach the limit": the sign test, exact.

    Args:
        below: values of the sample that do not reach it.
    """
    from scipy import special

    return float(special.betainc(below, count - below + 1, 0.5)) if below > 0 else 1.0


def normal_below(value: float, variance: float) -> float:
    """P-value against "the expected value is at least 0", by a normal distribution."""
    if value >= 0:
        return 1.0
    return 0.5 * math.erfc(-value / math.sqrt(2 * variance)) if variance > 0 else 0.0
