"""What serves, looked at through short outages, and whether somebody else has changed it."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from recommender.errors import KuberecError
from serving.rollout.record import Rollout
from serving.rollout.target import Observed, OutOfSight, RolloutUnderWay, Target

POLL_S = 1.0
# What serves may be out of sight for so long (a control plane that is upgraded).
_OUTAGE_S = 60.0
T = TypeVar("T")


class Sight:
    """Looks at what serves, through short outages of whoever tells."""

    def __init__(self, target: Target, poll_s: float = POLL_S) -> None:
        self._target, self._poll_s = target, poll_s

    def observe(self) -> Observed:
        """What serves now; as `patiently`."""
        return self.patiently(self._target.observe)

    def patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` gives.

        Raises:
            OutOfSight: it failed for a minute. RolloutUnderWay: at once.
        """
        begin = time.monotonic()
        while True:
            try:
                return ask()
            except RolloutUnderWay:
                raise
            except KuberecError as error:
                if time.monotonic() - begin > _OUTAGE_S:
                    raise OutOfSight(str(error)) from error
            time.sleep(self._poll_s)


def other_hand(rollout: Rollout, found: Observed, percents: Sequence[int]) -> str:
    """What somebody else has changed of what serves, in words; "" if nothing.

    Args:
        percents: shares that this rollout may have asked for last.
    """
    if found.stable == rollout.stable and found.canary == rollout.canary:
        if found.wanted_percent in percents:
            return ""
        asked = " or ".join(f"{percent} %" for percent in percents)
        return (
            f"the canary's share was set to {found.wanted_percent} % by somebody else (this "
            f"rollout asked for {asked})"
        )
    return (
        f"somebody else changed what serves: {found.stable or 'nothing'} with "
        f"{found.canary or 'no'} canary, where this rollout left {rollout.stable} with "
        f"{rollout.canary}"
    )


def changed(rollout: Rollout, seen: Observed) -> str:
    """`other_hand` for a rollout that may have been killed half-way through what it was doing."""
    alone = seen.stable == rollout.stable and seen.canary is None
    if alone and (rollout.phase == "rolling_back" or not rollout.steps):
        return ""  # before there was a canary, or when it was gone again
    if rollout.phase == "promoting" and seen.stable == rollout.canary:
        return ""
    if rollout.phase in ("promoting", "rolling_back"):
        return other_hand(rollout, seen, [seen.wanted_percent])
    return other_hand(rollout, seen, sorted({rollout.percent, rollout.confirmed}))
