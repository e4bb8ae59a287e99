"""How `alpha` is shared by the looks of a rollout, however many there will be."""

import math
from collections import Counter

from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig, RolloutStep


def looks_of(step: RolloutStep, config: RolloutConfig) -> int:
    """Judgements of a step that ends in time."""
    return max(round(step.bake_s / config.look_every_s), 1)


def spending(rollout: Rollout, config: RolloutConfig) -> float:
    """By what `alpha` is divided for the next look, so that all looks together spend no more.

    Half of it is shared alike by the looks that are planned. The other half is for those of steps
    that take longer: the i-th of them gets 6/(pi i)^2 of it, which sums up to 1 however many come.
    """
    planned = {step.percent: looks_of(step, config) for step in config.steps}
    done = Counter[int]()
    for record in rollout.steps:
        done[record.percent] += len(record.looks)
    percent = rollout.steps[-1].percent
    if done[percent] < planned.get(percent, 0):
        return 2.0 * sum(planned.values())
    late = sum(max(count - planned.get(share, 0), 0) for share, count in done.items()) + 1
    return 2.0 * (math.pi * late) ** 2 / 6
