"""Verdicts on what both versions answered to the same requests."""

import numpy as np
import pytest
from rollout_numbers import (
    CONFIG,
    INFINITY,
    LOOKS,
    Rank,
    answer,
    both_asked,
    look,
    popular,
    retrained,
    row,
    shuffled,
)

from serving.rollout.evidence import Pair, Ranked
from serving.rollout.judging.judge import judge
from serving.rollout.settings import RankingLimits, RolloutConfig


@pytest.mark.parametrize(
    ("rank", "name"),
    [(shuffled, "top-10 overlap"), (shuffled, "rank-biased"), (popular, "different items")],
)
def test_broken_rankings_are_rolled_back(rank: Rank, name: str) -> None:
    pairs = both_asked(np.random.default_rng(6), rank=rank)
    verdict = judge(look(pairs=pairs), CONFIG, LOOKS)
    assert verdict.outcome == "roll_back"
    assert row(verdict, name).outcome == "fail"
    # By the requests that both were asked alone, even where no metrics can be read.
    blind = judge(look(pairs=pairs, stable=None, canary=None, problem="gone"), CONFIG, LOOKS)
    assert blind.outcome == "roll_back"


def test_a_quarter_of_a_hundred_pairs_is_enough_for_a_model_that_is_broken_everywhere() -> None:
    pairs = both_asked(np.random.default_rng(6), 25, rank=shuffled)
    assert judge(look(pairs=pairs), CONFIG, LOOKS).outcome == "roll_back"
    few = judge(look(pairs=pairs[:10]), RolloutConfig(ranking=RankingLimits(min_pairs=10)), LOOKS)
    assert few.outcome == "inconclusive"


def test_popular_items_alone_are_found() -> None:
    config = RolloutConfig(ranking=RankingLimits(min_overlap=0, min_rbo=0, min_coverage_ratio=0))
    pairs = both_asked(np.random.default_rng(6), rank=popular)
    verdict = judge(look(pairs=pairs), config, LOOKS)
    assert verdict.outcome == "roll_back"
    assert "share of popular items" in verdict.reason


def test_a_model_trained_anew_may_rank_differently() -> None:
    for seed in range(10):
        pairs = both_asked(np.random.default_rng(seed), rank=retrained)
        verdict = judge(look(pairs=pairs), CONFIG, LOOKS)
        assert verdict.outcome == "promote", verdict.reason
        assert float(row(verdict, "top-10 overlap").canary or 0) < 0.7


def test_scores_on_a_wholly_different_scale_are_found() -> None:
    pairs = both_asked(np.random.default_rng(6), shift=40.0)
    config = RolloutConfig(ranking=RankingLimits(max_score_drift=0.5))
    verdict = judge(look(pairs=pairs), config, LOOKS)
    assert row(verdict, "distance").canary == 1.0
    assert row(verdict, "distance").outcome == "fail"


@pytest.mark.parametrize("score", [float("nan"), INFINITY])
def test_a_score_that_is_no_number_fails_at_once(score: float) -> None:
    good = answer(["a", "b"])
    broken = Pair("golden", 2, good, Ranked(("a", "b"), (1.0, score)))
    verdict = judge(look(pairs=[broken]), CONFIG, LOOKS)
    assert verdict.outcome == "roll_back"
    assert "no numbers" in verdict.reason
    both = broken._replace(stable=broken.canary)
    assert judge(look(pairs=[both]), CONFIG, LOOKS).outcome == "inconclusive"


def test_answers_that_fail_for_the_canary_alone() -> None:
    random = np.random.default_rng(8)
    verdict = judge(look(pairs=both_asked(random, 40, failing=1.0)), CONFIG, LOOKS)
    assert verdict.outcome == "roll_back"
    assert row(verdict, "failed answers").outcome == "fail"
    pairs = both_asked(random, 100)
    one = [pairs[5]._replace(canary=None), *pairs]
    assert judge(look(pairs=one), CONFIG, LOOKS).outcome == "promote"
    some = [pair._replace(canary=None) for pair in pairs[:6]] + pairs[6:]
    assert judge(look(pairs=some), CONFIG, LOOKS).outcome == "inconclusive"
    also = [pair._replace(stable=None, canary=None) for pair in pairs[:6]] + pairs[6:]
    assert judge(look(pairs=also), CONFIG, LOOKS).outcome == "promote"


def test_short_and_empty_answers() -> None:
    def cut(random: np.random.Generator, items: list[str]) -> list[str]:
        return items[:2]

    def none(random: np.random.Generator, items: list[str]) -> list[str]:
        return []

    for rank in (cut, none):
        verdict = judge(look(pairs=both_asked(np.random.default_rng(8), rank=rank)), CONFIG, LOOKS)
        assert verdict.outcome == "roll_back"
        assert row(verdict, "short or empty answers, asked both").outcome == "fail"
    # Where stable has no more either, nobody is to blame.
    catalogue = [Pair("live", 100, answer(["a", "b"]), answer(["b", "a"]))] * 30
    verdict = judge(look(pairs=catalogue), CONFIG, LOOKS)
    assert verdict.outcome == "promote", verdict.reason


def test_a_stable_that_recommends_nothing_is_nothing_to_compare_with() -> None:
    verdict = judge(look(pairs=[Pair("live", 2, answer([]), answer(["a"]))] * 30), CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert "stable recommended nothing" in verdict.reason


def test_few_pairs_are_inconclusive_and_the_reason_says_why() -> None:
    found = look(pairs=look().pairs[:5], pairs_problem="the side door is shut")
    verdict = judge(found, CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert "4; 20 are needed (the side door is shut)" in verdict.reason
    assert judge(look(pairs=[]), CONFIG, LOOKS).outcome == "inconclusive"


def test_items_that_all_lists_share_are_no_certainty() -> None:
    """By one item more or less a coverage is not known to be too small."""
    first, second = ([f"item {place + begin}" for place in range(10)] for begin in (0, 5))
    pairs = [
        Pair("live", 10, answer(first), answer(first)),
        Pair("live", 10, answer(second), answer(first)),
    ] * 20  # 10 different items beside 15
    config = CONFIG.model_copy(update={"ranking": RankingLimits(min_coverage_ratio=0.7)})
    verdict = judge(look(pairs=pairs), config, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert "different items" in verdict.reason


def test_limits_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_pairs: 200 is more than pairs_per_step \(100\)"):
        RankingLimits(min_pairs=200)
