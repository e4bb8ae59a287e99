"""Verdicts: what is found, what is not, and how often a canary that is no worse is blamed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.rollout.evidence import Histogram, Pair, Ranked, Window
from serving.rollout.judging.judge import Round, judge
from serving.rollout.record import CheckRow, Verdict
from serving.rollout.settings import RankingLimits, RolloutConfig

INFINITY = float("inf")
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, INFINITY)
CONFIG = RolloutConfig()
LOOKS = 48  # of the default configuration

Rank = Callable[[np.random.Generator, list[str]], list[str]]


def histogram(seconds: Any) -> Histogram:
    return Histogram(BOUNDS, tuple(np.histogram(seconds, (0.0, *BOUNDS))[0].tolist()))


def traffic(
    random: np.random.Generator,
    requests: int,
    failing: float = 0.001,
    slower_s: float = 0.0,
    fallbacks: float = 0.002,
    short: float = 0.0,
) -> Window:
    """Requests of one row, durations with a tail."""
    seconds = 0.004 * random.lognormal(0, 0.7, requests) + slower_s
    return Window(
        requests,
        random.binomial(requests, failing),
        histogram(seconds),
        0.0005 if requests else None,
        requests,
        random.binomial(requests, fallbacks),
        random.binomial(requests, short),
    )


def plus(first: Window, second: Window) -> Window:
    counts = map(sum, zip(first.latency.counts, second.latency.counts, strict=True))
    return Window(
        first.requests + second.requests,
        first.errors + second.errors,
        Histogram(BOUNDS, tuple(counts)),
        0.0005,
        first.rows + second.rows,
        first.fallbacks + second.fallbacks,
        first.short + second.short,
    )


def alike(random: np.random.Generator, items: list[str]) -> list[str]:
    return items


def retrained(random: np.random.Generator, items: list[str]) -> list[str]:
    """Half of the items, in about their order, and half from further down."""
    kept = sorted(random.choice(len(items), len(items) // 2, replace=False).tolist())
    known = [items[place] for place in kept]
    others = [f"item {place}" for place in random.permutation(600) if f"item {place}" not in known]
    return (known + others)[: len(items)]


def shuffled(random: np.random.Generator, items: list[str]) -> list[str]:
    return [f"item {place}" for place in random.choice(1300, len(items), replace=False)]


def popular(random: np.random.Generator, items: list[str]) -> list[str]:
    return [f"item {place}" for place in range(len(items))]


def both_asked(
    random: np.random.Generator,
    count: int = 100,
    rank: Rank = alike,
    failing: float = 0.0,
    shift: float = 0.0,
) -> list[Pair]:
    """Golden pairs first; items with a low number are popular."""
    pairs = [Pair("golden", 10, answer(popular(random, [""] * 10)), None, cold=True)]
    pairs = [pairs[0]._replace(canary=pairs[0].stable)]
    while len(pairs) < count:
        places = np.unique(np.minimum(random.geometric(0.01, 10), 1300))
        items = [f"item {place}" for place in random.permutation(places)]
        scores = sorted(random.normal(size=len(items)).tolist(), reverse=True)
        found = rank(random, items)
        canary = Ranked(tuple(found), tuple(score + shift for score in scores[: len(found)]))
        failed = random.random() < failing
        source = "golden" if len(pairs) < 16 else "live"
        stable = Ranked(tuple(items), tuple(scores))
        pairs.append(Pair(source, len(items), stable, None if failed else canary))
    return pairs


def answer(items: list[str]) -> Ranked:
    return Ranked(tuple(items), tuple(float(-place) for place in range(len(items))))


def look(seed: int = 1, **changes: Any) -> Round:
    random = np.random.default_rng(seed)
    found = Round(25, traffic(random, 1500), traffic(random, 500), "", both_asked(random))
    return found._replace(**changes)


def row(verdict: Verdict, name: str) -> CheckRow:
    (found,) = [check for check in verdict.checks if name in check.name]
    return found


def test_a_good_canary_is_promoted() -> None:
    verdict = judge(look(), CONFIG, LOOKS)
    assert verdict.outcome == "promote", verdict.reason
    assert [check.outcome for check in verdict.checks] == ["pass"] * 14
    assert row(verdict, "top-10 overlap").canary == 1.0
    assert (
        "mean: golden 1.000 of 15, live 1.000 of 84; 0 below"
        in row(verdict, "top-10 overlap").detail
    )


def test_a_canary_like_stable_is_blamed_in_fewer_rollouts_than_alpha() -> None:
    """Whole rollouts: windows grow over 12 looks of each of 4 steps, seeded. A high alpha, so that
    few rollouts suffice: with 0.2 up to 12 of 60 may be rolled back."""
    random = np.random.default_rng(2)
    config = RolloutConfig(alpha=0.2, min_requests=20)
    rolled_back, promoted = 0, 0
    for _ in range(60):
        blamed = False
        for percent in (5, 25, 50, 100):
            stable, canary = traffic(random, 0), traffic(random, 0)
            before = traffic(random, 1000, failing=0.01)
            pairs = both_asked(random, 40)
            for at in range(1, 13):
                requests = 250
                ours = random.binomial(requests, percent / 100)
                canary = plus(canary, traffic(random, ours, failing=0.01))
                stable = plus(stable, traffic(random, requests - ours, failing=0.01))
                found = Round(percent, stable, canary, "", pairs[: 3 * at], "", before)
                verdict = judge(found, config, LOOKS)
                blamed |= verdict.outcome == "roll_back"
            promoted += verdict.outcome == "promote"
        rolled_back += blamed
    assert rolled_back <= 12
    assert promoted >= 150  # of 240 steps; the others go on


def test_a_canary_that_fails_three_percent_is_found() -> None:
    """At a quarter of 2,000 requests in half of the looks, of 4,000 in nearly all; until then it is
    open, and never promoted."""
    random = np.random.default_rng(3)
    found: dict[int, list[Verdict]] = {500: [], 1000: []}
    for requests, verdicts in found.items():
        for _ in range(60):
            stable, canary = traffic(random, 3 * requests), traffic(random, requests, failing=0.03)
            verdicts.append(judge(look(stable=stable, canary=canary), CONFIG, LOOKS))
    rolled_back = {
        requests: [verdict.outcome for verdict in verdicts].count("roll_back") / len(verdicts)
        for requests, verdicts in found.items()
    }
    assert rolled_back[500] >= 0.45
    assert rolled_back[1000] >= 0.9
    assert not [each for each in (*found[500], *found[1000]) if each.outcome == "promote"]
    blamed = next(each for each in found[500] if each.outcome == "roll_back")
    assert "error rate" in blamed.reason
    assert "of 500 requests" in blamed.reason


def test_fifty_milliseconds_more_are_found_with_a_hundred_requests() -> None:
    random = np.random.default_rng(4)
    slow = traffic(random, 100, slower_s=0.05)
    verdict = judge(look(stable=traffic(random, 100), canary=slow), CONFIG, LOOKS)
    assert verdict.outcome == "roll_back"
    assert row(verdict, "p50").outcome == row(verdict, "p99").outcome == "fail"
    assert float(row(verdict, "p50").canary or 0) == pytest.approx(58, abs=8)


def test_a_slow_tail_is_found() -> None:
    random = np.random.default_rng(4)
    canary = plus(traffic(random, 920), traffic(random, 80, slower_s=0.2))
    verdict = judge(look(canary=canary), CONFIG, LOOKS)
    assert verdict.outcome == "roll_back"
    assert row(verdict, "p50").outcome == "pass"
    assert row(verdict, "p99").outcome == "fail"


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


def test_fallbacks_and_short_answers_of_clients() -> None:
    random = np.random.default_rng(9)
    for changes, name in (
        ({"fallbacks": 0.1}, "without features"),
        ({"short": 0.1}, "short or empty answers"),
    ):
        verdict = judge(look(canary=traffic(random, 500, **changes)), CONFIG, LOOKS)
        assert verdict.outcome == "roll_back"
        assert name in verdict.reason


def test_rows_of_one_request_fall_together_and_count_once() -> None:
    """Three requests of a hundred rows each are not three hundred independent failures."""
    random = np.random.default_rng(9)
    canary = traffic(random, 300)._replace(rows=30_000, fallbacks=600)
    stable = traffic(random, 300)._replace(rows=30_000, fallbacks=0)
    verdict = judge(look(stable=stable, canary=canary), CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert row(verdict, "without features").outcome == "unsure"


def test_a_long_wait_for_triton_keeps_from_promoting() -> None:
    canary = look().canary
    assert canary is not None
    for queue_s in (0.2, None):
        verdict = judge(look(canary=canary._replace(queue_s=queue_s)), CONFIG, LOOKS)
        assert verdict.outcome == "inconclusive"
        assert "wait for Triton" in verdict.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"stable": None, "canary": None, "problem": "http://prometheus: refused"},
        {"stable": None, "problem": "http://prometheus: refused"},
        {"canary": None, "problem": "http://prometheus: refused"},
        {"problem": "http://prometheus: refused"},
    ],
)
@pytest.mark.parametrize("percent", [5, 100])
def test_missing_metrics_never_promote(changes: dict[str, Any], percent: int) -> None:
    before = look().stable
    verdict = judge(look(percent=percent, stable_before=before, **changes), CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert "http://prometheus: refused" in verdict.reason


def test_ill_stable_holds_and_says_so() -> None:
    random = np.random.default_rng(10)
    ill = traffic(random, 1500, failing=0.2)
    verdict = judge(look(stable=ill, canary=traffic(random, 500, failing=0.2)), CONFIG, LOOKS)
    assert verdict.outcome == "hold"
    assert verdict.reason.startswith("stable is ill itself: ")
    worse = judge(look(stable=ill, canary=traffic(random, 500, failing=0.6)), CONFIG, LOOKS)
    assert worse.outcome == "roll_back"
    better = judge(look(stable=ill, canary=traffic(random, 500, failing=0.0)), CONFIG, LOOKS)
    assert better.outcome == "promote", better.reason
    # Better, and yet ill by what is held against any version.
    half = judge(look(stable=ill, canary=traffic(random, 5000, failing=0.1)), CONFIG, LOOKS)
    assert half.outcome == "hold"


def test_few_requests_never_roll_back() -> None:
    random = np.random.default_rng(11)
    for requests, errors in ((10, 1), (10, 8), (99, 30)):
        canary = traffic(random, requests)._replace(errors=errors)
        verdict = judge(look(canary=canary), CONFIG, LOOKS)
        assert verdict.outcome == "inconclusive"
        assert f"too few requests: the canary answered {requests}; 100 are needed" in verdict.reason
    few = judge(look(stable=traffic(random, 7)), CONFIG, LOOKS)
    assert few.outcome == "inconclusive"
    assert "stable answered 7" in few.reason
    # One failure in as many as are needed is more than may be, and yet no proof.
    one = traffic(random, 100)._replace(errors=1)
    quiet = traffic(random, 1900)._replace(errors=0)
    verdict = judge(look(stable=quiet, canary=one), CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("not enough to tell: error rate 1.00%")


def test_few_pairs_are_inconclusive_and_the_reason_says_why() -> None:
    found = look(pairs=look().pairs[:5], pairs_problem="the side door is shut")
    verdict = judge(found, CONFIG, LOOKS)
    assert verdict.outcome == "inconclusive"
    assert "4; 20 are needed (the side door is shut)" in verdict.reason
    assert judge(look(pairs=[]), CONFIG, LOOKS).outcome == "inconclusive"


def test_all_requests_at_the_canary_are_compared_with_stable_before() -> None:
    random = np.random.default_rng(12)
    nothing = traffic(random, 0)
    found = look(percent=100, stable=nothing, stable_before=traffic(random, 1500))
    verdict = judge(found, CONFIG, LOOKS)
    assert verdict.outcome == "promote", verdict.reason
    assert "of the step before" in row(verdict, "p99").detail
    slow = found._replace(canary=traffic(random, 500, slower_s=0.05))
    assert judge(slow, CONFIG, LOOKS).outcome == "roll_back"
    stray = found._replace(stable=traffic(random, 3)._replace(errors=3))
    assert judge(stray, CONFIG, LOOKS) == verdict
    # A canary that died: stable has its requests, and is compared with at the same time.
    slower = found._replace(stable=traffic(random, 1500, slower_s=0.05))
    assert "step before" not in row(judge(slower, CONFIG, LOOKS), "p99").detail
    few = found._replace(canary=traffic(random, 50))
    assert judge(few, CONFIG, LOOKS).outcome == "inconclusive"


def test_a_rollout_of_one_step_has_nothing_to_be_compared_with_but_its_limits() -> None:
    random = np.random.default_rng(13)
    found = look(percent=100, stable=traffic(random, 0), canary=traffic(random, 5000))
    verdict = judge(found, CONFIG, LOOKS)
    assert verdict.outcome == "promote", verdict.reason
    assert row(verdict, "p50").detail.startswith("not compared")
    failing = found._replace(canary=traffic(random, 500, failing=0.05))
    assert judge(failing, CONFIG, LOOKS).outcome == "roll_back"


def test_fractions_of_counts() -> None:
    """As Prometheus's increase tells them."""
    found = look()
    assert found.stable is not None
    assert found.canary is not None

    def stretched(window: Window, by: float) -> Window:
        latency = Histogram(BOUNDS, tuple(by * count for count in window.latency.counts))
        numbers = (window.requests, window.errors, window.rows, window.fallbacks, window.short)
        requests, errors, rows, fallbacks, short = (by * number for number in numbers)
        return Window(requests, errors, latency, window.queue_s, rows, fallbacks, short)

    sides = {"stable": stretched(found.stable, 1.037), "canary": stretched(found.canary, 1.071)}
    verdict = judge(found._replace(**sides), CONFIG, LOOKS)
    assert verdict.outcome == "promote", verdict.reason
    assert all(math.isfinite(check.canary) for check in verdict.checks if _is_number(check.canary))


COUNTS = st.one_of(st.just(0.0), st.floats(0, 5000), st.integers(0, 500).map(float))
WINDOWS = st.builds(
    Window,
    COUNTS,
    COUNTS,
    st.lists(COUNTS, min_size=11, max_size=11).map(lambda each: Histogram(BOUNDS, tuple(each))),
    st.one_of(st.none(), st.floats(0, 1)),
    COUNTS,
    COUNTS,
    COUNTS,
)
ANSWERS = st.one_of(
    st.none(),
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.floats(allow_nan=True, allow_infinity=True)),
        max_size=6,
    ).map(lambda each: Ranked(tuple(i for i, _ in each), tuple(score for _, score in each))),
)
PAIRS = st.builds(
    Pair, st.sampled_from(["golden", "live"]), st.integers(1, 100), ANSWERS, ANSWERS, st.booleans()
)
ROUNDS = st.builds(
    Round,
    st.sampled_from([1, 50, 100]),
    st.one_of(st.none(), WINDOWS),
    st.one_of(st.none(), WINDOWS),
    st.sampled_from(["", "gone"]),
    st.lists(PAIRS, max_size=30),
    st.just(""),
    st.one_of(st.none(), WINDOWS),
)


@settings(max_examples=150, deadline=None)
@given(ROUNDS, st.sampled_from([1, 20]), st.integers(0, 1000))
def test_no_numbers_break_the_judge_and_only_passed_checks_promote(
    found: Round, needed: int, looks: int
) -> None:
    config = RolloutConfig(min_requests=needed, ranking=RankingLimits(min_pairs=needed))
    verdict = judge(found, config, looks)
    outcomes = {check.outcome for check in verdict.checks}
    assert verdict.reason
    assert (verdict.outcome == "roll_back") == ("fail" in outcomes)
    if verdict.outcome == "promote":
        assert outcomes == {"pass"}
        assert found.canary is not None
        assert found.problem == ""
        assert found.canary.requests >= needed
        assert found.percent == 100 or (found.stable and found.stable.requests >= needed)
        assert sum(pair.stable is not None for pair in found.pairs) >= needed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


@pytest.mark.parametrize("field", ["fallbacks", "short"])
def test_a_stable_that_is_degraded_itself_holds(field: str) -> None:
    """As when the feature store is away: both give everybody popular items."""
    random = np.random.default_rng(5)
    degraded: dict[str, Any] = {field: 1.0}
    round = look(stable=traffic(random, 3000, **degraded), canary=traffic(random, 1000, **degraded))
    verdict = judge(round, CONFIG, LOOKS)
    assert verdict.outcome == "hold"
    assert "stable is ill itself: 100.0% of its rows" in verdict.reason
    well = judge(round._replace(canary=traffic(random, 1000)), CONFIG, LOOKS)
    assert well.outcome == "promote"  # clearly better than an ill one, and well


def test_a_stable_beyond_the_longest_p99_holds() -> None:
    random = np.random.default_rng(5)
    slow = [traffic(random, count, slower_s=0.2) for count in (3000, 1000)]
    round = look(stable=slow[0], canary=slow[1])
    assert judge(round, CONFIG, LOOKS).outcome == "promote"
    config = CONFIG.model_copy(update={"max_p99_ms": 150.0})
    verdict = judge(round, config, LOOKS)
    assert verdict.outcome == "hold"
    assert "150 ms" in verdict.reason
    assert judge(look(), config, LOOKS).outcome == "promote"


def test_durations_within_the_limits_own_bucket_are_no_evidence() -> None:
    """Of 210 ms nobody knows whether they are beyond 239 ms if the bucket ends at 350."""
    bounds = (0.1, 0.183, 0.2, 0.35, INFINITY)
    stable = traffic(np.random.default_rng(1), 10_000)._replace(
        latency=Histogram(bounds, (9_000.0, 900.0, 100.0, 0.0, 0.0))
    )
    canary = traffic(np.random.default_rng(2), 5_000)._replace(
        latency=Histogram(bounds, (4_900.0, 0.0, 0.0, 100.0, 0.0))
    )
    verdict = judge(look(stable=stable, canary=canary), CONFIG, LOOKS)
    assert verdict.outcome != "roll_back"


def test_twice_the_load_may_take_twice_the_time() -> None:
    random = np.random.default_rng(3)
    before, canary = traffic(random, 4000, slower_s=0.02), traffic(random, 4000, slower_s=0.05)
    alone = look(percent=100, stable=traffic(random, 0), canary=canary, stable_before=before)
    assert judge(alone, CONFIG, LOOKS).outcome == "roll_back"
    half = alone._replace(load_then=0.5)
    verdict = judge(half, CONFIG, LOOKS)
    assert verdict.outcome == "promote"
    assert "when it had 50% of the load" in str(verdict.checks)


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
