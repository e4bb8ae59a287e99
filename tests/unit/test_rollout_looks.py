"""What the looks of a rollout may spend, and ask."""

from rollout_running import config
from rollout_target import MemoryTarget

from serving.rollout.judging.spending import spending
from serving.rollout.mirror import Mirror
from serving.rollout.record import Look, Rollout, StepRecord, now


def test_the_looks_of_a_rollout_spend_no_more_than_alpha() -> None:
    """However late it gets: each look's share of it, summed up."""
    chosen = config(look_every_s=0.001)
    rollout = Rollout(id="r", target="embedded", stable="v1", canary="v2", began=now(), config={})
    spent = 0.0
    for step in chosen.steps:
        for again in range(2):  # as after a kill
            rollout.steps.append(StepRecord(percent=step.percent, began=now()))
            for _ in range(20 + 300 * again):
                spent += 1 / spending(rollout, chosen)
                rollout.steps[-1].looks.append(
                    Look(at=now(), canary_percent=0, outcome="inconclusive", reason="")
                )
    assert 0.9 < spent <= 1.0


def test_a_request_is_asked_once_in_a_step(target: MemoryTarget) -> None:
    rollout = Rollout(id="r", target="embedded", stable="v1", canary="v2", began=now(), config={})
    mirror = Mirror(target, rollout, config(), [], looks=10)
    for _ in range(5):
        assert mirror.ask() == ""
    assert len(mirror.pairs) == 10  # what the target has: as many users as are asked for at once
    assert mirror.exhausted
    mirror.start_over()
    mirror.ask()
    assert len(mirror.pairs) == 10
