"""A rollout whose process was killed, or that was held, and is run again."""

import pytest
from rollout_running import PROMOTED, kill_at, run, stopped
from rollout_target import Killed, MemoryTarget, window

from recommender.errors import KuberecError
from serving.rollout.machine import abort, promote

EVENTS = [f"{moment}{name}" for name in dict.fromkeys(PROMOTED) for moment in ("before ", "")]


@pytest.mark.parametrize("event", [*EVENTS, "read", "begin"])
def test_killed_anywhere_it_goes_on(target: MemoryTarget, event: str) -> None:
    kill_at(target, event)
    with pytest.raises(Killed):
        run(target)
    left = target.load()
    assert left is not None
    assert left.unfinished
    done = run(target)
    assert done.status == "promoted"
    assert done.id == left.id  # the same one, not another
    assert (target.stable, target.canary) == ("v2", None)
    assert target.calls.count("promote") <= 2
    assert "RolloutResumed" in [note.reason for note in done.notes]


@pytest.mark.parametrize("event", ["before abandon", "abandon"])
def test_killed_while_it_goes_back_it_goes_on_going_back(target: MemoryTarget, event: str) -> None:
    target.canary_window = window(errors=100)
    kill_at(target, event)
    with pytest.raises(Killed):
        run(target)
    target.canary_window = window()  # does not matter any more
    found = stopped(target)
    assert found.status == "rolled_back"
    assert (target.stable, target.canary) == ("v1", None)


@pytest.mark.parametrize("event", EVENTS)
def test_after_a_kill_another_version_begins_with_going_back(
    target: MemoryTarget, event: str
) -> None:
    kill_at(target, event)
    with pytest.raises(Killed):
        run(target)
    promoted = target.stable == "v2"
    done = run(target, "v3")
    assert ("RolloutPromoted" in [note.reason for note in target.notes[:-1]]) == promoted
    assert (done.status, done.canary) == ("promoted", "v3")
    assert done.stable == ("v2" if promoted else "v1")
    assert (target.stable, target.canary) == ("v3", None)


def test_a_held_one_goes_on_when_it_is_run_again(target: MemoryTarget) -> None:
    target.canary_window = None
    held = stopped(target)
    target.canary_window = window()
    done = run(target)
    assert (done.id, done.status) == (held.id, "promoted")


def test_what_was_changed_after_a_kill_is_noticed(target: MemoryTarget) -> None:
    kill_at(target, "shift 25")
    with pytest.raises(Killed):
        run(target)
    target.percent = 70
    with pytest.raises(KuberecError, match=r"v2 has 70 % of the requests beside v1"):
        run(target)
    assert target.load().status == "taken_over"  # type: ignore[union-attr]
    assert target.percent == 70


@pytest.mark.parametrize("event", ["before shift 5", "before shift 25", "shift 50"])
def test_killed_twice_at_the_same_point_it_goes_on(target: MemoryTarget, event: str) -> None:
    for _ in range(3):
        kill_at(target, event)
        with pytest.raises(Killed):
            run(target)
    assert run(target).status == "promoted"


def test_a_held_one_goes_on_where_the_new_steps_do(target: MemoryTarget) -> None:
    held_at_25 = iter([True])

    def no_metrics(name: str) -> None:
        if name == "shift 25" and next(held_at_25, False):
            target.canary_window = None

    target.when = no_metrics
    assert stopped(target).steps[-1].percent == 25
    target.canary_window = window()
    target.calls.clear()
    steps = [{"percent": percent, "bake_s": 0.02} for percent in (5, 10, 30, 100)]
    assert run(target, steps=steps).status == "promoted"
    assert target.calls == ["shift 10", "shift 30", "shift 100", "shift 100", "promote"]


def test_what_was_asked_of_an_earlier_process_is_forgotten(target: MemoryTarget) -> None:
    target.canary_window = None
    stopped(target)
    target.request("abort")  # and the process died before it saw it
    assert promote(target).status == "promoted"


def test_a_canary_that_was_not_asked_yet_is_not_promoted(target: MemoryTarget) -> None:
    kill_at(target, "before prepare")
    with pytest.raises(Killed):
        run(target)
    with pytest.raises(KuberecError, match="golden requests yet"):
        promote(target)
    assert abort(target).status == "rolled_back"
