"""The rollout's state machine, by itself; tests/rollout_target.py is the endpoint."""

from typing import Any

import pytest
from rollout_running import PROMOTED, run, stopped
from rollout_target import MemoryTarget, window

from recommender.errors import Check, GateFailed, KuberecError
from serving.rollout.machine import abort
from serving.rollout.outcome import RolloutStopped
from serving.rollout.target import StableNotReady


def test_a_good_canary_takes_over_step_by_step(target: MemoryTarget) -> None:
    done = run(target)
    assert target.calls == PROMOTED
    assert (target.stable, target.canary) == ("v2", None)
    assert (done.status, done.phase, done.stable, done.canary) == ("promoted", "done", "v1", "v2")
    assert [step.percent for step in done.steps] == [5, 25, 50, 100]
    for step in done.steps:
        assert step.ended is not None
        assert step.verdict is not None
        assert step.verdict.outcome == "promote"
        assert {row.outcome for row in step.verdict.checks} == {"pass"}
        assert step.looks[-1].canary_percent == step.percent
    reasons = [note.reason for note in target.notes]
    assert reasons[0] == "RolloutStarted"
    assert reasons.count("RolloutStep") == 4
    assert reasons[-1] == "RolloutPromoted"
    assert target.load() == done


@pytest.mark.parametrize(
    ("worse", "word"),
    [
        ({"canary_window": window(errors=60)}, "error"),
        ({"canary_window": window(seconds=0.09)}, "p50"),
        ({"canary_items": tuple(f"other-{n}" for n in range(10))}, "overlap"),
    ],
)
def test_a_worse_canary_goes_back_at_its_first_step(
    target: MemoryTarget, worse: dict[str, Any], word: str
) -> None:
    for name, value in worse.items():
        setattr(target, name, value)
    found = stopped(target)
    assert found.status == "rolled_back"
    assert word in found.reason.lower()
    assert target.calls == ["prepare", "shift 5", "abandon"]
    assert (target.stable, target.canary) == ("v1", None)
    assert found.steps[-1].verdict is not None
    assert "fail" in {row.outcome for row in found.steps[-1].verdict.checks}


def test_stable_as_bad_as_the_canary_holds(target: MemoryTarget) -> None:
    target.stable_window = target.canary_window = window(errors=100)
    found = stopped(target)
    assert found.status == "held"
    assert "stable" in found.reason
    assert (target.stable, target.canary, target.percent) == ("v1", "v2", 5)  # as it was


def test_without_metrics_nothing_is_promoted(target: MemoryTarget) -> None:
    target.stable_window = None
    found = stopped(target)
    assert found.status == "held"
    assert "http://metrics does not answer" in found.reason
    assert target.calls == ["prepare", "shift 5"]


def test_too_little_traffic_holds(target: MemoryTarget) -> None:
    target.stable_window = target.canary_window = window(requests=3)
    found = stopped(target)
    assert found.status == "held"
    assert target.percent == 5


def test_a_hold_that_is_not_to_be_kept_goes_back(target: MemoryTarget) -> None:
    target.stable_window = None
    found = stopped(target, after_hold="roll_back")
    assert found.status == "rolled_back"
    assert "does not answer" in found.reason
    assert (target.stable, target.canary) == ("v1", None)


def test_metrics_that_come_back_are_judged(target: MemoryTarget) -> None:
    target.stable_window = None
    looks = iter(range(1000))

    def later(name: str) -> None:
        if name == "read" and next(looks) > 3:
            target.stable_window = window()

    target.when = later
    assert run(target, max_wait_s=30).status == "promoted"


def test_a_canary_that_does_not_get_ready_goes_back(target: MemoryTarget) -> None:
    def fail(name: str) -> None:
        if name == "prepare":
            raise KuberecError("container 'triton': it does not start")

    target.when = fail
    found = stopped(target)
    assert (found.status, found.reason) == ("rolled_back", "container 'triton': it does not start")
    assert target.calls == ["prepare", "abandon"]
    assert found.steps == []


def test_wrong_golden_answers_are_kept_with_their_numbers(target: MemoryTarget) -> None:
    def fail(name: str) -> None:
        if name == "prepare":
            raise GateFailed("rollout", [Check("overlap", 0.5, ">= 1", False)])

    target.when = fail
    found = stopped(target)
    assert found.status == "rolled_back"
    assert found.prepared == [{"name": "overlap", "value": 0.5, "limit": ">= 1", "passed": False}]


def test_a_canary_that_dies_goes_back(target: MemoryTarget) -> None:
    def die(name: str) -> None:
        if name == "shift 25":
            target.canary_ready = False

    target.when = die
    found = stopped(target)
    assert found.status == "rolled_back"
    assert "a pod is gone" in found.reason
    assert target.calls == ["prepare", "shift 5", "shift 25", "abandon"]


def test_while_stable_is_not_ready_nothing_is_changed(target: MemoryTarget) -> None:
    polls = iter(range(1000))

    def come_and_go(name: str) -> None:
        if name == "observe" and target.percent == 25:
            target.stable_ready = next(polls) >= 10

    target.when = come_and_go
    done = run(target, stable_timeout_s=30)
    assert target.calls == PROMOTED
    held = [look for look in done.steps[1].looks if look.outcome == "hold"]
    assert [look.reason for look in held] == ["stable (v1) is not ready: a pod is gone"]


def test_a_stable_that_stays_away_holds(target: MemoryTarget) -> None:
    def go(name: str) -> None:
        if name == "shift 25":
            target.stable_ready = False

    target.when = go
    found = stopped(target)
    assert found.status == "held"
    assert "stable was not ready for 0.2 s" in found.reason
    assert (target.canary, target.percent) == ("v2", 25)
    with pytest.raises(KuberecError, match="nothing was taken away"):
        abort(target)
    assert target.load().phase == "rolling_back"  # type: ignore[union-attr]
    target.stable_ready = True
    assert abort(target).status == "rolled_back"
    assert target.canary is None


def test_a_defect_leaves_no_canary_behind(target: MemoryTarget) -> None:
    def fail(name: str) -> None:
        if name == "read" and target.percent == 25:
            raise ZeroDivisionError("division by zero")

    target.when = fail
    with pytest.raises(ZeroDivisionError):
        run(target)
    found = target.load()
    assert found is not None
    assert found.status == "rolled_back"
    assert "unforeseen failure, ZeroDivisionError" in found.reason
    assert (target.stable, target.canary) == ("v1", None)


def test_a_short_outage_of_who_tells_changes_nothing(target: MemoryTarget) -> None:
    outage = iter([True, True, False])

    def away(name: str) -> None:
        if name == "observe" and target.percent == 25 and next(outage, False):
            raise KuberecError("the API cannot be reached")

    target.when = away
    assert run(target, max_wait_s=30).status == "promoted"


def test_an_error_at_work_goes_back(target: MemoryTarget) -> None:
    def fail(name: str) -> None:
        if name == "before shift 50":
            raise KuberecError("the gateway did not take over new routes")

    target.when = fail
    found = stopped(target)
    assert found.status == "rolled_back"
    assert found.reason == "the gateway did not take over new routes"
    assert (target.stable, target.canary) == ("v1", None)


def test_the_message_says_how_it_ended_and_why(target: MemoryTarget) -> None:
    target.canary_items = tuple(f"other-{number}" for number in range(10))
    with pytest.raises(RolloutStopped) as found:
        run(target)
    text = str(found.value)
    assert text.startswith("v2 was rolled back at 5 %, v1 serves alone: ")
    assert "FAIL" in text
    assert "limit" in text


def test_a_stable_that_is_away_at_a_shift_is_no_fault_of_the_canary(target: MemoryTarget) -> None:
    def away(name: str) -> None:
        if name == "before shift 25":
            target.when = lambda other: None
            raise StableNotReady("a pod is gone")

    target.when = away
    found = stopped(target)
    assert (found.status, found.reason) == ("held", "a pod is gone")
    assert target.percent == 5
    assert run(target).status == "promoted"


def test_what_serves_out_of_sight_is_held(
    target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.rollout.sight._OUTAGE_S", 0.05)

    def away(name: str) -> None:
        if name == "observe" and target.percent == 25:
            raise KuberecError("the API cannot be reached")

    target.when = away
    found = stopped(target)
    assert (found.status, found.reason) == ("held", "the API cannot be reached")
    assert "abandon" not in target.calls


def test_an_endpoint_that_restarts_as_a_whole_is_given_time(target: MemoryTarget) -> None:
    """The canary was away with stable: its own time begins when stable is back."""
    polls = iter(range(1000))

    def restart(name: str) -> None:
        if name == "observe" and target.percent == 25:
            poll = next(polls)
            target.stable_ready, target.canary_ready = poll > 10, poll > 12

    target.when = restart
    assert run(target, stable_timeout_s=30, max_unready_s=5).status == "promoted"


def test_a_canary_that_is_not_ready_is_not_asked(target: MemoryTarget) -> None:
    """It may hang, and each look at it would take as long as its answers are waited for."""
    looks: list[str] = []

    def fall(name: str) -> None:
        if name == "shift 25":
            target.canary_ready = False
            looks.clear()
        elif name == "read":
            looks.append(name)

    target.when = fall
    assert stopped(target, max_unready_s=0.05).status == "rolled_back"
    assert looks == []
