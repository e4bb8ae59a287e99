"""Who else has a hand in a rollout: operators, other processes, somebody who changes things."""

from typing import Any

import pytest
from rollout_running import run, stopped
from rollout_target import MemoryTarget

from recommender.errors import KuberecError
from serving.rollout.machine import abort, promote
from serving.rollout.record import Rollout
from serving.rollout.target import RolloutUnderWay, StableNotReady


@pytest.mark.parametrize(("what", "status"), [("promote", "promoted"), ("abort", "rolled_back")])
def test_an_operator_decides_of_a_held_one(target: MemoryTarget, what: str, status: str) -> None:
    target.canary_window = None
    stopped(target)
    decide = {"promote": promote, "abort": abort}[what]
    found = decide(target)
    assert found.status == status
    assert "operator" in found.reason
    assert target.stable == ("v2" if what == "promote" else "v1")
    assert target.canary is None
    with pytest.raises(KuberecError, match="no rollout under way"):
        decide(target)


@pytest.mark.parametrize("what", ["promote", "abort"])
def test_an_operator_asks_the_process_that_is_at_it(target: MemoryTarget, what: Any) -> None:
    def ask(name: str) -> None:
        if name == "shift 25":
            target.request(what)

    target.when = ask
    if what == "promote":
        assert run(target).status == "promoted"
        assert target.calls == ["prepare", "shift 5", "shift 25", "shift 100", "promote"]
    else:
        assert stopped(target).status == "rolled_back"
    assert target.asked is None


def change_share(target: MemoryTarget) -> None:
    target.percent = 70


def change_stable(target: MemoryTarget) -> None:
    target.stable, target.canary, target.percent = "v0", None, 0


@pytest.mark.parametrize("change", [change_share, change_stable])
def test_what_somebody_else_changes_is_left_as_it_is(target: MemoryTarget, change: Any) -> None:
    def meddle(name: str) -> None:
        if name == "shift 25":
            polls = iter(range(100))
            target.when = lambda other: change(target) if next(polls) == 2 else None

    target.when = meddle
    found = stopped(target)
    assert found.status == "taken_over"
    assert "somebody else" in found.reason
    assert target.calls == ["prepare", "shift 5", "shift 25"]
    assert target.percent in (70, 0)


def test_what_somebody_else_changes_during_a_shift_is_left_as_it_is(target: MemoryTarget) -> None:
    def meddle(name: str) -> None:
        if name == "shift 25":
            target.percent = 40
            raise KuberecError("the route does not come to 25 %")

    target.when = meddle

    def shift(rollout: Rollout, percent: int) -> None:
        target.percent = percent
        target._call(f"shift {percent}")

    target.shift = shift  # type: ignore[method-assign]
    found = stopped(target)
    assert found.status == "taken_over"
    assert target.percent == 40


def test_a_canary_of_somebody_else_is_not_touched(target: MemoryTarget) -> None:
    target.canary, target.percent = "v9", 10
    with pytest.raises(KuberecError, match="v9 has 10 %"):
        run(target)
    assert target.calls == []


def test_two_at_once_are_refused(target: MemoryTarget) -> None:
    target.busy = True
    with pytest.raises(RolloutUnderWay, match="pid 1"):
        run(target)
    assert target.record is None


def test_who_lost_the_right_to_roll_out_touches_nothing(target: MemoryTarget) -> None:
    def lose(name: str) -> None:
        if name == "observe" and target.percent == 25:
            raise RolloutUnderWay("another one is at it")

    target.when = lose
    with pytest.raises(RolloutUnderWay):
        run(target)
    assert target.calls == ["prepare", "shift 5", "shift 25"]


def test_ctrl_c_goes_back(target: MemoryTarget) -> None:
    def interrupt(name: str) -> None:
        if name == "shift 25":
            raise KeyboardInterrupt

    target.when = interrupt
    found = stopped(target)
    assert found.status == "rolled_back"
    assert "interrupted" in found.reason


def test_what_is_asked_before_the_first_share_is_done_before_it(target: MemoryTarget) -> None:
    def ask(name: str) -> None:
        if name == "prepare":
            target.request("abort")

    target.when = ask
    assert stopped(target).status == "rolled_back"
    assert target.calls == ["prepare", "abandon"]


def test_a_promotion_that_is_refused_changes_nothing(target: MemoryTarget) -> None:
    target.canary_window = None
    held = stopped(target)

    def away(name: str) -> None:
        if name == "before shift 100":
            raise StableNotReady("a pod is gone")

    target.when = away
    with pytest.raises(StableNotReady):
        promote(target)
    left = target.load()
    assert left is not None
    assert (left.status, left.phase, left.step) == (held.status, held.phase, held.step)
    target.when = lambda name: None
    assert abort(target).status == "rolled_back"
