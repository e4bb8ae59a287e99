"""What every rollout under load must come up to."""

from datetime import datetime

from rollout_load import SteadyLoad

from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig

_START_S = 30.0  # more than a canary takes to start, and be checked, on a busy machine


def nothing_failed(load: SteadyLoad) -> bool:
    return (load.failed(False), load.failed(True), load.wrong) == ([], [], [])


def seconds(begin: str, end: str | None) -> float:
    assert end is not None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def require_in_time(found: Rollout) -> None:
    """No step took longer than its settings say."""
    config = RolloutConfig.model_validate(found.config)
    for step in found.steps:
        bake_s = next(each.bake_s for each in config.steps if each.percent == step.percent)
        assert seconds(step.began, step.ended) < bake_s + config.max_wait_s + 5
    allowed = sum(step.bake_s + config.max_wait_s for step in config.steps) + _START_S
    assert seconds(found.began, found.ended) < allowed
