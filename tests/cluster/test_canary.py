"""A canary on a real API server: judged, promoted or rolled back in KServe's order."""

from collections.abc import Iterator

import pytest
from canary_case import BLUE, GREEN, Beside, Case, bind_role, new_case
from data_plane import DataPlane, other_claims
from played_objects import READY, UNREADY
from room import SERVICE, as_account, eventually, managed_fields

from serving.inference_service import FIELD_MANAGER
from serving.kubernetes.api import AUTOSCALER, DEPLOYMENT, INFERENCE_SERVICE, LEASE
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Rollout

pytestmark = pytest.mark.timeout(240)
OWNED = {"f:spec": {"f:predictor": {"f:name": {}, "f:model": {"f:storageUri": {}}}}}


@pytest.fixture
def case(plane: DataPlane) -> Iterator[Case]:
    with new_case(plane) as made:
        yield made


def test_a_good_canary_is_promoted_with_the_rights_of_the_role(case: Case) -> None:
    room = case.room
    bind_role(room)
    before = room.get(DEPLOYMENT, BLUE)["spec"]["template"]

    result = case.roll_out("v2", as_account(room, "rollout"))

    assert (result["version"], result["previous"], result["slot"]) == ("v2", "v1", "green")
    assert (result["reused"], result["storage_uri"]) == (False, case.plane.uri("v2"))
    assert all(row["passed"] for row in result["rows"])
    timeline = result["timeline"]
    assert timeline["status"] == "promoted", case.said
    assert [step["percent"] for step in timeline["steps"]] == [25, 100]
    # Percent as the route has it, traffic as Prometheus has it.
    last = timeline["steps"][0]["looks"][-1]
    assert last["canary_percent"] == 25
    assert last["stable"]["requests"] > last["canary"]["requests"] >= 30

    case.assert_alone("v2", "green")
    service = room.get(INFERENCE_SERVICE, SERVICE)
    assert managed_fields(service, FIELD_MANAGER) == OWNED
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    after = room.get(DEPLOYMENT, GREEN)
    assert after["metadata"]["generation"] == 1  # the canary's pods are stable's, untouched
    before["metadata"] = after["spec"]["template"]["metadata"]
    assert after["spec"]["template"] == before
    assert case.record() == Rollout.model_validate(timeline)
    assert not room.get(LEASE, f"{SERVICE}-rollout")["spec"].get("holderIdentity")
    names = ("RolloutStarted", "RolloutPrepared", "RolloutStep", "RolloutPromoted")
    assert case.events() == {("Normal", name) for name in names}
    # KServe left the autoscaler of the slot that is empty now.
    assert room.cluster.find(AUTOSCALER, room.name, BLUE) is None
    assert room.cluster.find(AUTOSCALER, room.name, GREEN) is not None

    again = case.roll_out("v2")
    assert (again["reused"], again["timeline"]) == (True, None)


def test_a_canary_with_other_rankings_is_rolled_back(case: Case) -> None:
    with pytest.raises(RolloutStopped) as stopped:
        case.roll_out("v3")

    ended = stopped.value.rollout
    assert ended.status == "rolled_back", ended.reason
    assert "overlap" in ended.reason
    case.assert_alone("v1", "blue")
    assert case.record() == ended
    assert ("Warning", "RolloutRolledBack") in case.events()


def test_a_canary_that_does_not_get_ready_is_rolled_back(case: Case) -> None:
    message = 'Back-off pulling image "kuberec/transformer:9"'
    waiting = {
        "name": "transformer-container",
        "image": "kuberec/transformer:9",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
    }
    status = {"phase": "Pending", "containerStatuses": [waiting]}
    case.controllers.statuses[case.plane.uri("v2")] = status

    with pytest.raises(RolloutStopped) as stopped:
        case.roll_out("v2", ready_timeout_s=4.0)

    ended = stopped.value.rollout
    assert (ended.status, ended.steps) == ("rolled_back", [])
    assert "version v2 on InferenceService 'recommend' was not ready within 4 s" in ended.reason
    assert "image 'kuberec/transformer:9' cannot be pulled" in ended.reason
    case.assert_alone("v1", "blue")


def test_a_canary_that_answers_otherwise_than_exported_gets_no_request(case: Case) -> None:
    config = {"model_store": "pvc://models/wrong"}
    with other_claims(case.plane.versions["v2"]), pytest.raises(RolloutStopped) as stopped:
        case.roll_out("v2", **config)

    ended = stopped.value.rollout
    assert (ended.status, ended.steps) == ("rolled_back", [])
    failed = [row["name"] for row in ended.prepared if not row["passed"]]
    assert "ONNX as served → canary: top-K overlap" in failed
    case.assert_alone("v1", "blue")


def test_a_canary_that_dies_and_comes_again_is_rolled_back(case: Case) -> None:
    """What it counted before it died is lost, and its Deployment may be available all the time."""
    died = {
        "name": "kserve-container",
        "image": "kuberec/triton:0.1.0",
        "imageID": "",
        "ready": True,
        "restartCount": 1,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    }
    with Beside(case, "v2") as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        case.controllers.statuses[case.plane.uri("v2")] = READY | {"containerStatuses": [died]}

    assert isinstance(beside.result, RolloutStopped)
    assert beside.result.rollout.status == "rolled_back"
    assert "container 'kserve-container' of pod" in beside.result.rollout.reason
    assert "has died meanwhile (OOMKilled, exit code 137)" in beside.result.rollout.reason
    case.assert_alone("v1", "blue")


def test_an_operator_need_not_wait_for_a_canary_that_does_not_get_ready(case: Case) -> None:
    case.controllers.statuses[case.plane.uri("v2")] = UNREADY
    with Beside(case, "v2") as beside:
        eventually(lambda: case.deployment(GREEN) is not None, 30)
        case.target().request("abort")

    assert isinstance(beside.result, RolloutStopped)
    assert beside.result.rollout.reason == "an operator asked for it (kuberec rollout abort)"
    case.assert_alone("v1", "blue")


def test_while_stable_is_not_ready_nothing_is_changed(case: Case) -> None:
    with Beside(case, "v2") as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        case.controllers.statuses[case.plane.uri("v1")] = UNREADY
        told = "hold: stable (v1) is not ready"
        eventually(lambda: any(told in line for line in case.said), 30)
        looks = len(case.record().steps[0].looks)
        assert case.percent() == 25
        assert case.deployment(GREEN) is not None
        del case.controllers.statuses[case.plane.uri("v1")]

    assert isinstance(beside.result, dict), (beside.result, case.said)
    assert beside.result["timeline"]["status"] == "promoted"
    assert len(beside.result["timeline"]["steps"][0]["looks"]) > looks
    case.assert_alone("v2", "green")


def test_a_canary_is_not_taken_away_while_stable_is_not_ready(case: Case) -> None:
    with Beside(case, "v2") as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        case.controllers.statuses[case.plane.uri("v1")] = UNREADY
        case.target().request("abort")
        eventually(lambda: any("nothing is taken away" in line for line in case.said), 30)
        assert case.percent() == 0
        assert case.deployment(GREEN) is not None
        del case.controllers.statuses[case.plane.uri("v1")]

    assert isinstance(beside.result, RolloutStopped)
    assert beside.result.rollout.status == "rolled_back"
    assert "an operator asked for it (kuberec rollout abort)" in beside.result.rollout.reason
    assert case.target().requested() is None
    case.assert_alone("v1", "blue")
