"""The rollout's state machine, by itself; tests/rollout_target.py is the endpoint."""

from typing import Any

import pytest
from rollout_target import Killed, MemoryTarget, window

from recommender.errors import Check, GateFailed, KuberecError
from serving.rollout.judging.spending import spending
from serving.rollout.machine import abort, promote, roll_out
from serving.rollout.mirror import Mirror
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Look, Rollout, StepRecord, now
from serving.rollout.settings import RolloutConfig
from serving.rollout.target import RolloutUnderWay, StableNotReady

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


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget()


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


def test_what_was_changed_after_a_kill_is_noticed(target: MemoryTarget) -> None:
    kill_at(target, "shift 25")
    with pytest.raises(Killed):
        run(target)
    target.percent = 70
    with pytest.raises(KuberecError, match=r"v2 has 70 % of the requests beside v1"):
        run(target)
    assert target.load().status == "taken_over"  # type: ignore[union-attr]
    assert target.percent == 70


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


def test_what_is_asked_before_the_first_share_is_done_before_it(target: MemoryTarget) -> None:
    def ask(name: str) -> None:
        if name == "prepare":
            target.request("abort")

    target.when = ask
    assert stopped(target).status == "rolled_back"
    assert target.calls == ["prepare", "abandon"]


def test_an_endpoint_that_restarts_as_a_whole_is_given_time(target: MemoryTarget) -> None:
    """The canary was away with stable: its own time begins when stable is back."""
    polls = iter(range(1000))

    def restart(name: str) -> None:
        if name == "observe" and target.percent == 25:
            poll = next(polls)
            target.stable_ready, target.canary_ready = poll > 10, poll > 12

    target.when = restart
    assert run(target, stable_timeout_s=30, max_unready_s=5).status == "promoted"


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
