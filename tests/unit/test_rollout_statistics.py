"""Tests of counts and means: exact values, levels by simulation, power, and odd input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serving.rollout.evidence import Histogram
from serving.rollout.judging.statistics import (
    at_least,
    exceedances,
    excess,
    mean_below,
    mostly_below,
    normal_below,
)

INFINITY = float("inf")


def test_excess_is_the_sum_over_all_counts_that_are_as_extreme() -> None:
    """Three of 10 beside none of 10, without a margin: by brute force over every pair of counts,
    for every rate. Only the pooled rate matters then, and as extreme is a score as high."""

    def score(canary: int, stable: int) -> float:
        return (canary - stable) / math.sqrt(canary + stable) if canary + stable else 0.0

    extreme = [(c, s) for c in range(60) for s in range(60) if score(c, s) >= score(3, 0) - 1e-9]
    worst = max(
        sum(stats.poisson.pmf(c, mean) * stats.poisson.pmf(s, mean) for c, s in extreme)
        for mean in np.linspace(0.05, 22, 120)
    )
    assert excess(3, 10, 0, 10, 0.0) == pytest.approx(worst, rel=0.02)


@pytest.mark.parametrize(
    ("counts", "margin"),
    [
        ((15, 500, 0, 1500), 0.005),
        ((30, 1000, 5, 3000), 0.005),
        ((7, 20, 2, 60), 0.01),
        ((60, 400, 20, 400), 0.0),
    ],
)
def test_excess_has_its_level_at_every_rate_of_stable(
    counts: tuple[int, int, int, int], margin: float
) -> None:
    """The chance of a p-value as small as the one found, the canary exactly at the margin."""
    found = excess(*counts, margin)
    _, canary, _, stable = counts
    random = np.random.default_rng(5)
    for rate in (0.0005, 0.005, 0.03, 0.2):
        drawn = zip(
            random.binomial(canary, rate + margin, 200).tolist(),
            random.binomial(stable, rate, 200).tolist(),
            strict=True,
        )
        p_values = [excess(c, canary, s, stable, margin) for c, s in drawn]
        for level in (0.01, 0.1, max(found, 0.03)):
            share = np.mean([p <= level for p in p_values])
            assert share <= level + 3.5 * math.sqrt(level / 200)


def test_a_wide_margin_and_few_requests_say_nothing() -> None:
    assert excess(1, 10, 0, 100, 0.005) > 0.05
    assert excess(1, 100, 0, 1900, 0.005) > 0.3
    assert excess(0, 10, 0, 10, 0.0) == 1.0
    assert excess(5, 100, 5, 100, 0.0) == 1.0
    assert excess(3, 0, 0, 100, 0.0) == excess(3, 100, 0, 0, 0.0) == 1.0


def test_many_failures_are_found_soon() -> None:
    assert excess(15, 500, 0, 1500, 0.005) < 1e-6
    assert excess(9, 10, 0, 100, 0.005) < 1e-8
    assert excess(30_000, 1e6, 20_000, 1e6, 0.005) < 1e-8


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(60, 3000),
    st.integers(0, 60),
    st.integers(60, 3000),
    st.sampled_from([0.0, 0.005, 0.1]),
)
def test_more_failures_never_look_better(
    canary: int, of: int, stable: int, out_of: int, margin: float
) -> None:
    p_value = excess(canary, of, stable, out_of, margin)
    assert 0.0 <= p_value <= 1.0
    assert excess(canary + 1, of, stable, out_of, margin) <= p_value + 1e-9
    # A higher rate of stable's excuses more; a few percent are the grid of its rates.
    assert excess(canary, of, stable + 1, out_of, margin) >= 0.9 * p_value


def test_fractions_of_counts_are_rounded_in_favour_of_the_canary() -> None:
    """Prometheus extrapolates: an increase of 1 is often told as 1.07."""
    assert excess(3.9, 104.2, 0.2, 311.7, 0.0) == excess(3, 104.2, 1, 311.7, 0.0)
    assert exceedances(3.9, 100.9, 0.2, 300.9) == exceedances(3, 100, 1, 300)
    assert at_least(2.9, 10.0, 0.1) == at_least(2, 10.0, 0.1)


def test_at_least_is_the_tail_of_one_count() -> None:
    assert at_least(3, 100, 0.01) == pytest.approx(1 - math.exp(-1) * (1 + 1 + 0.5))
    assert at_least(3, 0, 0.01) == 1.0


def test_exceedances_are_the_tail_of_a_beta_binomial() -> None:
    expected = stats.betabinom.sf(19, 60, 1 + 10, 100 - 10)
    assert exceedances(20, 60, 10, 100) == pytest.approx(float(expected), rel=1e-6)
    assert exceedances(0, 0, 1, 10) == exceedances(5, 10, 0, 0) == 1.0
    assert exceedances(10, 10, 3, 3) <= 1.0


@pytest.mark.parametrize("q", [0.5, 0.99])
@pytest.mark.parametrize(("canary", "stable"), [(100, 100), (100, 1900), (400, 100)])
def test_exceedances_have_their_level_for_any_distribution(
    q: float, canary: int, stable: int
) -> None:
    """Both sides from one heavy-tailed distribution, seen through a histogram."""
    bounds = (0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.5, INFINITY)
    random = np.random.default_rng(3)

    def window(count: int) -> Histogram:
        seconds = 0.004 * random.lognormal(0, 1.2, count)
        counts = np.histogram(seconds, (0.0, *bounds))[0]
        return Histogram(bounds, tuple(counts.tolist()))

    p_values = []
    for _ in range(500):
        ours, theirs = window(canary), window(stable)
        limit = theirs.quantile(q)
        assert limit is not None
        p_values.append(exceedances(ours.beyond(limit), canary, theirs.beyond(limit), stable))
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p_values) <= level) <= level + 3.5 * math.sqrt(level / 500)


def test_a_mean_below_its_limit() -> None:
    assert mean_below(0.3, 0.2, 100) == 1.0
    assert mean_below(0.2, 0.2, 100) == 1.0
    assert mean_below(0.0, 0.2, 10) == pytest.approx(0.8**10)
    assert mean_below(0.01, 0.2, 100) < 1e-7
    assert mean_below(0.5, 1.0, 3) == 0.0
    assert mean_below(0.0, 0.5, 0) == 1.0


def test_the_bound_of_a_mean_holds_for_the_most_skewed_values() -> None:
    """Zeros and ones whose mean is the limit: no values in 0..1 scatter more."""
    random = np.random.default_rng(7)
    means = random.binomial(40, 0.2, 20_000) / 40
    p_values = np.array([mean_below(mean, 0.2, 40) for mean in means])
    for level in (0.001, 0.01, 0.1):
        assert np.mean(p_values <= level) <= level


def test_mostly_below_is_the_sign_test() -> None:
    assert mostly_below(10, 10) == pytest.approx(2**-10)
    assert mostly_below(9, 10) == pytest.approx(11 * 2**-10)
    assert mostly_below(0, 10) == mostly_below(0, 0) == 1.0


def test_normal_below() -> None:
    assert normal_below(0.0, 4.0) == normal_below(3.0, 4.0) == 1.0
    assert normal_below(-2 * 1.959964, 4.0) == pytest.approx(0.025, rel=1e-4)
    assert normal_below(-1.0, 0.0) == 0.0


def test_quantiles_of_a_histogram() -> None:
    """As Prometheus does: linear within a bucket, the last finite bound beyond it."""
    found = Histogram((0.01, 0.02, 0.05, INFINITY), (10.0, 20.0, 10.0, 0.0))
    assert found.quantile(0.5) == pytest.approx(0.015)
    assert found.quantile(0.25) == pytest.approx(0.01)
    assert found.quantile(1.0) == pytest.approx(0.05)
    assert found.beyond(0.015) == pytest.approx(20)
    assert found.beyond(0.05) == 0
    assert Histogram((0.01, INFINITY), (0.0, 3.0)).quantile(0.5) == 0.01
    assert Histogram((0.01, INFINITY), (0.0, 3.0)).beyond(5.0) == 3.0
    assert Histogram((0.01, INFINITY), (0.0, 0.0)).quantile(0.5) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 50), min_size=4, max_size=4), st.floats(0.01, 0.99))
def test_as_many_are_beyond_a_quantile_as_it_says(counts: list[float], q: float) -> None:
    found = Histogram((0.01, 0.02, 0.05, INFINITY), tuple(counts))
    limit = found.quantile(q)
    if limit is not None and q * found.total <= found.total - counts[-1]:
        assert found.beyond(limit) == pytest.approx((1 - q) * found.total, abs=1e-6)


@pytest.mark.parametrize("trials", [0.0, 1e-300, 1.5e-149, 1e-9, 0.5, 1.0, 1e9])
def test_any_number_of_trials_comes_to_an_end(trials: float) -> None:
    """Fractions of one are what an extrapolation leaves of nothing."""
    for sides in ((4, 84, 0, trials), (4, trials, 0, 84), (0, trials, 4, trials)):
        assert 0 <= excess(*sides, 0.01) <= 1
    assert trials >= 1 or excess(4, 84, 0, trials, 0.01) == 1
