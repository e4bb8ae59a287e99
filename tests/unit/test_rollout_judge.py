"""Verdicts on live traffic, and how often a canary that is no worse is blamed."""

from typing import Any

import numpy as np
import pytest
from rollout_numbers import CONFIG, INFINITY, LOOKS, both_asked, look, plus, row, traffic

from serving.rollout.evidence import Histogram
from serving.rollout.judging.judge import Round, judge
from serving.rollout.record import Verdict
from serving.rollout.settings import RolloutConfig


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
