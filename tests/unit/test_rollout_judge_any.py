"""Whatever the numbers: a verdict, and never a promotion without evidence."""

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_numbers import BOUNDS, CONFIG, LOOKS, look

from serving.rollout.evidence import Histogram, Pair, Ranked, Window
from serving.rollout.judging.judge import Round, judge
from serving.rollout.settings import RankingLimits, RolloutConfig

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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
