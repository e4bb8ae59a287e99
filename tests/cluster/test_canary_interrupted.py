"""Rollouts that do not go as they began: killed, held, taken over by somebody, two at once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from canary_case import BLUE, Beside, Case, new_case
from data_plane import DataPlane
from played_objects import UNREADY
from room import SERVICE, eventually

from serving.inference_service import Canary, Serving
from serving.kubernetes.api import AUTOSCALER, INFERENCE_SERVICE, LEASE
from serving.rollout.kserve import lease
from serving.rollout.kserve.lease import hold
from serving.rollout.machine import promote
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Rollout
from serving.rollout.target import RolloutUnderWay

pytestmark = pytest.mark.timeout(240)
PROGRAM = Path(__file__).with_name("rollout_process.py")


@pytest.fixture
def case(plane: DataPlane) -> Iterator[Case]:
    with new_case(plane) as made:
        yield made


@contextmanager
def own_process(case: Case, version: str) -> Iterator[None]:
    """A rollout in a process of its own, which is killed at the end of the block."""
    plane = case.plane
    given = {
        "version_dir": str(plane.versions[version]),
        "registry": str(plane.registry),
        "config": plane.config(case.room).model_dump(mode="json"),
        "doors": plane.doors,
    }
    modules = os.pathsep.join([str(PROGRAM.parents[1]), str(PROGRAM.parents[2])])
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), json.dumps(given)],
        env=os.environ | {"PYTHONPATH": modules},
    )
    try:
        yield
        assert case.target().holder() is not None
    finally:
        process.kill()
        process.wait()
    assert case.target().holder() is None


def test_a_killed_rollout_goes_on_when_it_is_run_again(case: Case) -> None:
    with own_process(case, "v2"):
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 90)
    killed_at = case.record()
    assert killed_at.status == "under_way"

    result = case.roll_out("v2")

    assert result["timeline"]["id"] == killed_at.id
    assert result["timeline"]["status"] == "promoted"
    assert "RolloutResumed" in [note["reason"] for note in result["timeline"]["notes"]]
    case.assert_alone("v2", "green")


def killed_once_it_took_over(case: Case) -> Rollout:
    """What a process left that was killed after the update that promotes its canary."""
    with own_process(case, "v2"):
        eventually(lambda: case.percent() == 100 and case.record().steps[-1].looks, 120)
        case.controllers.frozen = True  # so that nothing follows from it
        eventually(lambda: case.serving() == Serving("green", case.plane.uri("v2")), 60)
    case.controllers.frozen = False
    left = case.record()
    assert (left.status, left.phase) == ("under_way", "promoting")
    return left


def test_a_promotion_that_was_killed_is_finished(case: Case) -> None:
    left = killed_once_it_took_over(case)

    result = case.roll_out("v2")

    assert (result["timeline"]["id"], result["timeline"]["status"]) == (left.id, "promoted")
    assert (result["previous"], result["slot"]) == ("v1", "green")
    case.assert_alone("v2", "green")
    assert case.room.cluster.find(AUTOSCALER, case.room.name, BLUE) is None
    assert case.record().status == "promoted"


def test_a_promotion_that_was_killed_is_finished_before_another_version_comes(case: Case) -> None:
    left = killed_once_it_took_over(case)

    result = case.roll_out("v1", canary=False)

    assert (result["version"], result["previous"], result["slot"]) == ("v1", "v2", "green")
    assert result["timeline"] is None
    case.assert_alone("v1", "green")
    assert (case.record().id, case.record().status) == (left.id, "promoted")


def test_in_an_emergency_a_version_takes_over_at_once(case: Case) -> None:
    """Whatever it ranks, without metrics, and though a canary was left that is held."""
    limits = {"max_wait_s": 0.5, "steps": [{"percent": 25, "bake_s": 1.0}, 100]}
    with pytest.raises(RolloutStopped):
        case.roll_out("v2", limits=limits, prometheus="http://127.0.0.1:9")
    assert case.percent() == 25

    result = case.roll_out("v3", canary=False, prometheus="http://127.0.0.1:9")

    assert (result["version"], result["previous"], result["slot"]) == ("v3", "v1", "blue")
    assert (result["reused"], result["timeline"]) == (False, None)
    assert all(row["passed"] for row in result["rows"])
    assert case.record().status == "rolled_back"
    case.assert_alone("v3", "blue")


def test_an_emergency_waits_for_the_process_that_rolls_out(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 1.0)
    held = hold(case.room.cluster, case.room.name, f"{SERVICE}-rollout")
    with held, pytest.raises(RolloutUnderWay, match="another process rolls out here: "):
        case.roll_out("v2", canary=False)
    assert case.serving() == Serving("blue", case.plane.uri("v1"))


def test_without_metrics_it_is_held_and_an_operator_decides(case: Case) -> None:
    limits = {"max_wait_s": 1.0, "steps": [{"percent": 25, "bake_s": 2.0}, 100]}
    with pytest.raises(RolloutStopped) as stopped:
        case.roll_out("v2", limits=limits, prometheus="http://127.0.0.1:9")

    held = stopped.value.rollout
    assert (held.status, held.percent) == ("held", 25)
    assert "Prometheus at http://127.0.0.1:9 is not reached" in held.reason
    assert case.percent() == 25
    assert ("Warning", "RolloutHeld") in case.events()

    done = promote(case.target(), case.said.append)

    assert done.id == held.id
    assert done.status == "promoted"
    case.assert_alone("v2", "green")
    assert [each.id for each in case.target().history()] == [held.id]


def test_what_is_held_ends_when_stable_itself_is_rolled_out(case: Case) -> None:
    limits = {"max_wait_s": 0.5, "steps": [{"percent": 25, "bake_s": 1.0}, 100]}
    with pytest.raises(RolloutStopped):
        case.roll_out("v2", limits=limits, prometheus="http://127.0.0.1:9")

    result = case.roll_out("v1")

    assert (result["version"], result["reused"], result["timeline"]) == ("v1", True, None)
    assert case.record().status == "rolled_back"
    case.assert_alone("v1", "blue")


def test_one_that_lost_its_lease_leaves_everything(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.5)
    with Beside(case, "v2") as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        mine = {"spec": {"holderIdentity": "another-host/1/1"}}
        case.room.patch(LEASE, f"{SERVICE}-rollout", mine)

    assert isinstance(beside.result, RolloutUnderWay)
    assert "another-host/1/1 has it now" in str(beside.result)
    assert case.percent() == 25
    assert case.record().status == "under_way"


def test_a_share_set_by_hand_is_noticed_and_left(case: Case) -> None:
    with Beside(case, "v2") as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        canary = case.room.get(INFERENCE_SERVICE, SERVICE)["spec"]["canary"]
        canary[0]["trafficPercent"] = 60
        by_hand = {"spec": {"canary": canary}}
        case.room.patch(INFERENCE_SERVICE, SERVICE, by_hand, fieldManager="kubectl-edit")

    assert isinstance(beside.result, RolloutStopped)
    assert beside.result.rollout.status == "taken_over"
    assert "set to 60 % by somebody else" in beside.result.rollout.reason
    uri = case.plane.uri
    assert case.serving() == Serving("blue", uri("v1"), Canary("green", uri("v2"), 60))


def test_a_version_set_by_hand_is_not_replaced_without_force(case: Case) -> None:
    by_hand = {"spec": {"predictor": {"model": {"storageUri": case.plane.uri("v3")}}}}
    case.room.patch(INFERENCE_SERVICE, SERVICE, by_hand, fieldManager="kubectl-edit")
    eventually(lambda: case.target().observe().stable_ready)

    with pytest.raises(RolloutStopped) as refused:
        case.roll_out("v2")

    assert "'kubectl-edit' owns .spec.predictor.model.storageUri" in str(refused.value)
    assert "--force" in str(refused.value)
    assert case.serving() == Serving("blue", case.plane.uri("v3"))


def test_one_at_a_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 1.0)
    with hold(case.room.cluster, case.room.name, f"{SERVICE}-rollout"):
        with pytest.raises(RolloutUnderWay, match="another process rolls out here: ") as refused:
            case.roll_out("v2")
        assert "kuberec rollout abort" in str(refused.value)
        assert case.target().holder() is not None
    assert case.serving() == Serving("blue", case.plane.uri("v1"))
    assert case.target().holder() is None


def test_a_version_that_is_broken_is_replaced_with_force(case: Case) -> None:
    """There is nothing to compare with."""
    case.controllers.statuses[case.plane.uri("v1")] = UNREADY
    eventually(lambda: not case.target().observe().stable_ready)

    result = case.roll_out("v2", force=True)

    assert (result["version"], result["slot"], result["timeline"]) == ("v2", "blue", None)
    assert case.serving() == Serving("blue", case.plane.uri("v2"))
