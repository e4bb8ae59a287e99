"""The state machine on an endpoint in memory: quick steps, and a process that dies when told to."""

from typing import Any

import pytest
from rollout_target import Killed, MemoryTarget

from serving.rollout.machine import roll_out
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig

STEPS = [{"percent": percent, "bake_s": 0.02} for percent in (5, 25, 50, 100)]
UP = ["prepare", "shift 5", "shift 25", "shift 50", "shift 100"]
# One more time all of it: to be at 100 % is what a promotion asks for.
PROMOTED = [*UP, "shift 100", "promote"]


def config(**changes: Any) -> RolloutConfig:
    quick = {"steps": STEPS, "look_every_s": 0.01, "max_wait_s": 0.1, "own_requests": 0}
    return RolloutConfig.model_validate(
        quick | {"settle_s": 0, "max_unready_s": 0.01, "stable_timeout_s": 0.2} | changes
    )


def run(target: MemoryTarget, canary: str = "v2", **changes: Any) -> Rollout:
    return roll_out(target, canary, [], config(**changes), poll_s=0.002)


def stopped(target: MemoryTarget, canary: str = "v2", **changes: Any) -> Rollout:
    with pytest.raises(RolloutStopped) as found:
        run(target, canary, **changes)
    saved = target.load()
    assert saved is not None
    assert saved == found.value.rollout  # what is remembered is what was told
    return found.value.rollout


def kill_at(target: MemoryTarget, event: str) -> None:
    def strike(name: str) -> None:
        if name == event:
            target.when = lambda other: None
            raise Killed

    target.when = strike
