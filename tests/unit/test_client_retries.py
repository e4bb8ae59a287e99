"""When clients try again: delays, attempts, budget."""

from typing import Any

import pytest

from serving.client import RetryPolicy
from serving.client.retries import Attempts, RetryBudget


def test_the_budget_limits_retries_until_answers_earn_more() -> None:
    budget = RetryBudget(RetryPolicy(burst=2, earned_per_answer=0.5))
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    for _ in range(99):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_delays_are_random_below_a_doubling_limit() -> None:
    policy = RetryPolicy(attempts=6, first_delay_s=0.1, max_delay_s=0.5)
    limits: list[float] = []

    def longest(low: float, high: float) -> float:
        limits.append(high)
        return high

    attempts = Attempts(policy, RetryBudget(policy), 100, clock=lambda: 0.0, uniform=longest)
    delays = []
    for _ in range(6):
        attempts.next_timeout_s()
        delays.append(attempts.wait_after("UNAVAILABLE"))
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5, None])
    assert limits == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


@pytest.mark.parametrize("change", [{"attempts": 0}, {"first_delay_s": -1}, {"burst": -1}])
def test_an_impossible_policy_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        RetryPolicy(**change)
