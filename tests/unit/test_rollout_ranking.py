"""Overlap, rank-biased overlap, coverage, popularity and drift, by hand and by definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serving.rollout.evidence import Pair, Ranked
from serving.rollout.judging import ranking
from serving.rollout.settings import RankingLimits

LIMITS = RankingLimits(top_k=3)
LISTS = st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True)


def ranked(items: str, *scores: float) -> Ranked:
    return Ranked(tuple(items), scores or tuple(float(-place) for place in range(len(items))))


def pair(stable: str | None, canary: str | None, k: int = 10, cold: bool = False) -> Pair:
    sides = [None if items is None else ranked(items) for items in (stable, canary)]
    return Pair("live", k, sides[0], sides[1], cold)


def extrapolated(first: str, second: str, p: float) -> float:
    """Webber's definition: the agreement at every depth, to a depth where the rest is nothing."""
    shorter, longer = sorted((first, second), key=len)
    s, length = len(shorter), len(longer)
    at_s = len(set(shorter) & set(longer[:s]))
    total = 0.0
    for depth in range(1, 2000):
        common = len(set(shorter[:depth]) & set(longer[:depth]))
        if s < depth:  # the shorter list goes on agreeing as it did so far
            common += at_s * (min(depth, length) - s) / s
        agreement = common / min(depth, length)
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


def test_rbo_by_hand() -> None:
    # Agreement 1, 1/2, 1 at depths 1 to 3, and 1 from there on.
    assert ranking.rbo("abc", "acb") == pytest.approx(0.1 * (1 + 0.9 / 2 + 0.81) + 0.729)
    assert ranking.rbo("ab", "ba") == pytest.approx(0.9)
    # The weight of the first depth alone is 1 - p; a swap there costs exactly that.
    assert ranking.rbo("ab", "ba", 0.5) == pytest.approx(0.5)
    # One item of the longer list's three, at its first place: 1, 1, 1 by extrapolation.
    assert ranking.rbo("a", "abc") == pytest.approx(1.0)
    assert ranking.rbo("abcdefghij", "klmnopqrst") == 0.0
    assert ranking.rbo("", "") == 1.0
    assert ranking.rbo("", "ab") == ranking.rbo("ab", "") == 0.0


def test_the_first_ten_places_have_most_of_the_weight() -> None:
    """Webber et al., section 4.4: 86 % with p = 0.9."""
    p, d = ranking.PERSISTENCE, 10
    series = sum(p**depth / depth for depth in range(1, d))
    weight = 1 - p ** (d - 1) + (1 - p) / p * d * (math.log(1 / (1 - p)) - series)
    assert weight == pytest.approx(0.8556, abs=1e-4)


@settings(max_examples=200, deadline=None)
@given(LISTS.filter(len), LISTS.filter(len), st.sampled_from([0.5, 0.9]))
def test_rbo_is_its_definition(first: list[str], second: list[str], p: float) -> None:
    found = ranking.rbo(first, second, p)
    assert found == pytest.approx(extrapolated("".join(first), "".join(second), p))
    assert found == pytest.approx(ranking.rbo(second, first, p))
    assert -1e-12 <= found <= 1 + 1e-12
    assert ranking.rbo(first, first, p) == pytest.approx(1.0)


def test_overlap_counts_by_the_longer_list() -> None:
    assert ranking.overlap("abc", "cba") == 1.0
    assert ranking.overlap("abcd", "a") == 0.25
    assert ranking.overlap("ab", "") == 0.0
    assert ranking.overlap("", "") == 1.0


def test_only_the_top_is_compared_and_k_may_be_less_or_more_than_it() -> None:
    pairs = [pair("abcdef", "abcxyz"), pair("abcd", "axbc", k=1), pair("ab", "ab", k=100)]
    assert ranking.each(pairs, LIMITS, ranking.overlap) == [1.0, 1.0, 1.0]
    assert ranking.each([pair("aabc", "aabd")], LIMITS, ranking.overlap) == [
        pytest.approx(2 / 3)  # each item once
    ]


def test_what_has_no_answer_of_stable_is_not_compared() -> None:
    pairs = [pair(None, "abc"), pair("abc", None), pair("", "abc"), pair("abc", "")]
    assert ranking.answered(pairs, LIMITS) == [pairs[3]]
    assert ranking.each(pairs, LIMITS, ranking.overlap) == [0.0]


def test_coverage_counts_items_over_all_pairs() -> None:
    found = ranking.coverage([pair("abc", "abc"), pair("cde", "abc"), pair("efg", "abx")], LIMITS)
    assert (found.stable, found.canary) == (7, 4)
    assert found.only_stable == [2, 1, 2]
    assert found.only_canary == [0, 0, 1]
    assert found.ratio == pytest.approx(4 / 7)
    # D = 4 - 0.9 * 7 = -2.3; leaving pairs out changes it by -1.8, -0.9 and -0.8.
    variance = 1.8**2 + 0.9**2 + 0.8**2
    assert found.below(0.9) == pytest.approx(stats.norm.sf(2.3 / math.sqrt(variance)))
    assert found.below(0.5) == 1.0
    assert ranking.coverage([], LIMITS).ratio == 1.0


def test_popular_is_what_is_recommended_to_those_without_a_history() -> None:
    pairs = [pair("pqr", "pqr", cold=True), pair("abp", "pqx"), pair("abc", "pqr")]
    assert ranking.popular_items(pairs, LIMITS) == frozenset("pqr")
    stable, canary = ranking.popular_shares(pairs, LIMITS)
    assert stable == pytest.approx([1 / 3, 0])
    assert canary == pytest.approx([2 / 3, 1])


def test_what_any_model_answers_by_popularity_says_nothing_about_models() -> None:
    """Without a history; or of unknown items only, which is known by its answer."""
    pairs = [pair("pqr", "pqr", cold=True), pair("pqr", "pqr"), pair("abc", "xyz")]
    assert ranking.answered(pairs, LIMITS) == pairs[2:]
    assert ranking.summary(pairs, LIMITS)["overlap"] == 0.0
    assert ranking.answered(pairs[:2], LIMITS) == pairs[:2]  # better than nothing


def test_popular_is_what_is_recommended_most_where_no_such_request_was_asked() -> None:
    pairs = [pair("abc", "xyz")] * 5 + [pair("def", "abc")] * 4 + [pair("ghi", "xyz")]
    assert ranking.popular_items(pairs, LIMITS) == frozenset("abcdef")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=12, max_size=12),
    st.lists(st.integers(0, 9), min_size=12, max_size=12),
)
def test_drift_is_the_kolmogorov_smirnov_distance(first: list[int], second: list[int]) -> None:
    """With ties, lists of one length, and scores that are no numbers left out."""
    lists = [
        [tuple(map(float, scores[at : at + 3])) for at in range(0, 12, 3)]
        for scores in (first, second)
    ]
    pairs = [
        Pair("live", 3, Ranked(("a", "b", "c"), stable), Ranked(("a", "b", "c"), canary))
        for stable, canary in zip(*lists, strict=True)
    ]
    found = ranking.drift(pairs, LIMITS)
    assert found.distance == pytest.approx(stats.ks_2samp(first, second).statistic)
    broken = Ranked(("a",), (float("nan"),))
    assert ranking.drift([*pairs, Pair("live", 3, broken, broken)], LIMITS) == found


def test_drift_beyond_its_limit_by_chance() -> None:
    """Scores of one distribution, in pairs whose scores are alike: a limit of 0 is far too low,
    and yet hardly ever significantly beyond."""
    random = np.random.default_rng(11)
    p_values = []
    for _ in range(200):
        levels = random.normal(size=(30, 2, 1)) + 0.1 * random.normal(size=(30, 2, 3))
        pairs = [
            Pair("live", 3, *(Ranked(("a", "b", "c"), tuple(side)) for side in both))
            for both in levels.tolist()
        ]
        p_values.append(ranking.drift(pairs, LIMITS).beyond(0.0))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05


def test_summary_has_what_a_timeline_shows() -> None:
    golden = [each._replace(source="golden") for each in [pair("abc", "abc"), pair("abc", "xbc")]]
    found = ranking.summary([*golden, pair("def", "def"), pair("abc", None)], LIMITS)
    assert tuple(found) == (*ranking.SUMMARY, "pairs")
    assert found["pairs"] == {"golden": 2, "live": 2}
    assert found["overlap"] == pytest.approx((1 + 2 / 3 + 1) / 3, abs=1e-4)
    assert found["coverage_ratio"] == pytest.approx(7 / 6, abs=1e-4)
    empty = ranking.summary([], LIMITS)
    assert empty == dict.fromkeys(ranking.SUMMARY) | {"pairs": {"golden": 0, "live": 0}}
