"""When a failed attempt is made again: within the call's deadline, rarely, at random moments.

Only UNAVAILABLE is repeated: the request was not answered, and inference changes nothing. A refused
request would be refused again, and a deadline is the caller's. The delays are "full jitter"
(M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog 2015), so that clients which
failed together do not come back together; the budget keeps them from doubling the load of an
endpoint that is down (Google SRE book, chapter 22, "Retries").
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SAFE_TO_REPEAT = frozenset({"UNAVAILABLE"})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon; `RetryPolicy(attempts=1)` never repeats."""

    attempts: int = 4  # of one call, the first included
    first_delay_s: float = 0.1  # longest wait before the first retry; it doubles from there
    max_delay_s: float = 1.0
    burst: float = 10.0  # retries of one client before answers have to earn more
    earned_per_answer: float = 0.1

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.first_delay_s, self.max_delay_s, self.burst) < 0:
            raise ValueError(f"at least one attempt, and nothing negative: {self}")


class RetryBudget:
    """What one client may still spend on retries; shared by its threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._left = policy.burst
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry out of it; False if there is none."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def earn(self) -> None:
        """An answer came."""
        with self._lock:
            self._left = min(self._policy.burst, self._left + self._policy.earned_per_answer)


class Attempts:
    """The attempts of one call, which share its deadline.

    Args:
        timeout_s: of the whole call, waits included.
        clock, uniform: time in seconds, and a number between two; a test puts its own here.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._policy, self._budget = policy, budget
        self._clock, self._uniform = clock, uniform
        self._deadline = clock() + timeout_s
        self.made = 0

    def next_timeout_s(self) -> float:
        """Begin an attempt; what is left of the deadline, to be sent along with it."""
        self.made += 1
        return max(0.0, self._deadline - self._clock())

    def wait_after(self, code: str) -> float | None:
        """Seconds to wait after a failed attempt before the next; None: give up."""
        if code not in SAFE_TO_REPEAT or self.made >= self._policy.attempts:
            return None
        longest = min(self._policy.max_delay_s, self._policy.first_delay_s * 2 ** (self.made - 1))
        delay = self._uniform(0.0, longest)
        if self._clock() + delay >= self._deadline or not self._budget.spend():
            return None
        return delay
