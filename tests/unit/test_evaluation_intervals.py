"""Bootstrap intervals against SciPy's; calibration and diversity against their definitions."""

import numpy as np
import pytest
from scipy import stats

from recommender.evaluation import intervals
from recommender.evaluation.calibration import calibration
from recommender.evaluation.diversity import (
    coverage,
    novelty,
    popularity_bias,
    popularity_percentiles,
    self_information,
    users_of_items,
)
from recommender.evaluation.intervals import bootstrap, paired_interval


def skewed(users: int = 80, seed: int = 3) -> np.ndarray:
    """Gains as users have them: mostly 0."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(users) < 0.15, 1 / np.log2(rng.integers(2, 12, users)), 0.0)


def test_the_interval_is_that_of_scipys_bca():
    gains = skewed()
    ours = bootstrap(gains, 40_000, seed=0).interval(0.95)
    theirs = stats.bootstrap(
        (gains,), np.mean, n_resamples=9_999, method="BCa", vectorized=True, rng=0
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)
    # It leans to where the long tail of the gains is, as the plain percentiles do not.
    low, high = ours
    assert high - gains.mean() > gains.mean() - low


def test_resampling_by_distinct_values_has_the_spread_of_resampling_users():
    gains = skewed(400)
    means = bootstrap(gains, 20_000, seed=1).means
    assert means.mean() == pytest.approx(gains.mean(), rel=0.01)
    assert means.std() == pytest.approx(gains.std() / np.sqrt(len(gains)), rel=0.03)


def test_seeded_chunked_and_of_the_width_that_is_asked_for(monkeypatch):
    gains = skewed()
    one = bootstrap(gains, 2_000, seed=5)
    assert one.interval() == bootstrap(gains, 2_000, seed=5).interval()
    assert one.interval() != bootstrap(gains, 2_000, seed=6).interval()
    (low, high), (wider_low, wider_high) = one.interval(0.95), one.interval(0.998)
    assert wider_low < low < high < wider_high
    monkeypatch.setattr(intervals, "CHUNK", 64)
    assert len(bootstrap(gains, 2_000, seed=5).means) == 2_000


def test_a_handful_of_users_rules_out_no_chance():
    """Four equal signs come once in sixteen, whatever the resamples say; fourteen do not."""

    def interval(losers: int, confidence: float = 0.95) -> tuple[float, float]:
        differences = np.append(np.full(losers, -0.5), np.zeros(200 - losers))
        return paired_interval(differences, bootstrap(differences, 4_000, 0), confidence, 0)

    assert interval(4)[0] < 0 == interval(4)[1]
    assert interval(14)[1] < 0
    assert interval(7)[1] < 0 == interval(7, 0.998)[1]


def test_alike_rankers_rarely_look_different():
    """In slices of 100 users of whom some differ: as often as is said, or less."""
    rng = np.random.default_rng(0)
    tries, tail = 300, 0.01
    wrong = {"signs": 0, "resamples": 0}
    for seed in range(tries):
        found = rng.choice([-1.0, -0.5, 0.0, 0.5, 1.0], 100, p=[0.02, 0.02, 0.92, 0.02, 0.02])
        resampled = bootstrap(found, 1_000, seed)
        wrong["resamples"] += resampled.interval(1 - 2 * tail)[1] < 0
        wrong["signs"] += paired_interval(found, resampled, 1 - 2 * tail, seed)[1] < 0
    assert wrong["signs"] <= tries * tail + 3 * (tries * tail) ** 0.5
    assert wrong["signs"] < wrong["resamples"]


def test_users_who_are_all_alike_leave_nothing_open_and_none_is_an_error():
    assert bootstrap(np.full(20, 0.25), 1_000, seed=0).interval() == (0.25, 0.25)
    with pytest.raises(ValueError, match="no users"):
        bootstrap(np.array([]), 1_000, seed=0)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    confidence = np.repeat([0.1, 0.6], 50)
    correct = np.concatenate([np.arange(50) < 5, np.arange(50) < 20])  # 10 % and 40 %
    found = calibration(confidence, correct, bins=2)
    assert found["ece"] == pytest.approx(0.5 * 0.0 + 0.5 * 0.2)
    assert [row["users"] for row in found["bins"]] == [50, 50]
    assert found["bins"][1] == {
        "confidence": pytest.approx(0.6),
        "accuracy": pytest.approx(0.4),
        "users": 50,
    }


def test_what_is_shown_is_counted_without_empty_places():
    histories = [np.array([1, 1, 2]), np.array([1]), np.array([1, 3])]
    users = users_of_items(histories, 4)
    assert users.tolist() == [0, 3, 1, 1, 0]
    information = self_information(users, 3)
    assert information[1] == 0
    assert information[4] == pytest.approx(2)  # nobody's: -log2(1 / 4)
    shown = np.array([[1, 4, 0], [1, 0, 0]])
    assert novelty(shown, information) == pytest.approx(2 / 3)
    assert coverage(shown, 4) == 0.5


def test_popularity_is_a_percentile_with_ties_in_the_middle():
    percentiles = popularity_percentiles(np.array([0, 7, 2, 2, 0]))
    assert percentiles.tolist() == [0, 0.875, 0.5, 0.5, 0.125]
    assert popularity_bias(np.array([[1], [1]]), np.array([1, 2]), percentiles) == pytest.approx(
        0.875 / 0.6875
    )
