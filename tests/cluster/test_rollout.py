"""A rollout without a canary, of a first version or one that serves, on a real API server."""

import threading
from collections.abc import Iterator

import pytest
from canary_case import bind_role
from data_plane import DataPlane, other_claims
from played_controllers import Controllers
from room import SERVICE, Room, as_account, eventually, managed_fields, new_room

from recommender.errors import GateFailed, KuberecError
from serving.inference_service import (
    FIELD_MANAGER,
    Canary,
    Serving,
    apply_serving,
    desired,
    read_serving,
)
from serving.kubernetes.api import INFERENCE_SERVICE
from serving.kubernetes.gateway import GatewayError
from serving.kubernetes.waiting import NotReady, Superseded
from serving.rollout.kserve.rollout import rollout

pytestmark = pytest.mark.timeout(180)
OWNED = {
    "f:spec": {"f:predictor": {"f:name": {}, "f:model": {"f:storageUri": {}}}},
}


@pytest.fixture
def room(plane: DataPlane) -> Iterator[Room]:
    plane.start_over()
    with new_room() as made:
        made.apply_manifests()
        yield made


@pytest.fixture
def controllers(room: Room, plane: DataPlane) -> Iterator[Controllers]:
    with Controllers(room) as played:
        played.routed = plane.routed
        yield played


def test_the_first_version(room: Room, plane: DataPlane, controllers: Controllers) -> None:
    told: list[str] = []
    config = plane.config(room)
    result = rollout(plane.versions["v1"], plane.registry, config, told.append)
    assert (result["version"], result["reused"], result["previous"]) == ("v1", False, None)
    assert result["storage_uri"] == plane.uri("v1")
    assert all(row["passed"] for row in result["rows"])
    assert f"setting v1 in InferenceService '{SERVICE}'" in told
    service = room.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", plane.uri("v1"))
    assert managed_fields(service, FIELD_MANAGER) == OWNED
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}

    generation = service["metadata"]["generation"]
    again = rollout(plane.versions["v1"], None, config)
    assert again["reused"]
    assert len(again["rows"]) == len(result["rows"])
    assert room.get(INFERENCE_SERVICE, SERVICE)["metadata"]["generation"] == generation


@pytest.fixture
def serving_v1(room: Room, plane: DataPlane, controllers: Controllers) -> Room:
    rollout(plane.versions["v1"], plane.registry, plane.config(room))
    return room


def test_a_failed_gate_puts_back_what_served(serving_v1: Room, plane: DataPlane) -> None:
    # The same version from another store, where its folder claims other answers.
    config = plane.config(serving_v1, model_store="pvc://models/wrong")
    with other_claims(plane.versions["v1"]), pytest.raises(GateFailed) as failed:
        rollout(plane.versions["v1"], plane.registry, config)
    assert "FAIL ONNX as served → gateway, grpc: top-K overlap" in str(failed.value)
    assert str(failed.value).endswith("Version v1 has been put back, and serves.")
    assert {check.passed for check in failed.value.checks} == {True, False}
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", plane.uri("v1"))


def test_a_gateway_that_leads_elsewhere_is_told(
    room: Room, plane: DataPlane, controllers: Controllers
) -> None:
    controllers.routed = lambda shares: None  # the gateway goes on to answer by v1
    config = plane.config(room, answer_timeout_s=1.0)
    with pytest.raises(GatewayError, match=r"does not answer by version v2 .* last: version v1"):
        rollout(plane.versions["v2"], plane.registry, config)


def test_manifests_applied_again_leave_the_version(serving_v1: Room, plane: DataPlane) -> None:
    serving_v1.apply_shape(image="kuberec/transformer:0.1.1")
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", plane.uri("v1"))
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == "kuberec/transformer:0.1.1"


def test_another_rollout_meanwhile_is_left_alone(room: Room, plane: DataPlane) -> None:
    """Without controllers, so that the first rollout waits for the second."""
    found: list[BaseException] = []

    def first() -> None:
        try:
            rollout(plane.versions["v1"], plane.registry, plane.config(room))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: read_serving(room.get(INFERENCE_SERVICE, SERVICE)).storage_uri)
    apply_serving(room.cluster, room.name, SERVICE, Serving("blue", plane.uri("v2")))
    thread.join(30)
    assert isinstance(found[0], Superseded)
    assert read_serving(room.get(INFERENCE_SERVICE, SERVICE)).storage_uri == plane.uri("v2")


def test_nobody_makes_the_pods(room: Room, plane: DataPlane) -> None:
    config = plane.config(room, ready_timeout_s=1.0)
    with pytest.raises(NotReady, match="is KServe's controller running") as failed:
        rollout(plane.versions["v1"], plane.registry, config)
    assert "No other version served, so v1 stays set" in str(failed.value)


def test_a_canary_under_way_is_not_run_over(serving_v1: Room, plane: DataPlane) -> None:
    canary = Canary("green", plane.uri("v2"), 25)
    serving = Serving("blue", plane.uri("v1"), canary)
    stored = apply_serving(serving_v1.cluster, serving_v1.name, SERVICE, serving)
    sent = desired(serving_v1.name, SERVICE, serving)
    assert stored["spec"]["canary"] == sent["spec"]["canary"]
    assert read_serving(stored) == serving
    with pytest.raises(KuberecError, match="v2 has 25 % of the requests beside v1, and no rollout"):
        rollout(plane.versions["v2"], plane.registry, plane.config(serving_v1))


def test_the_role_of_the_manifests_is_enough(
    room: Room, plane: DataPlane, controllers: Controllers
) -> None:
    bind_role(room)
    cluster = as_account(room, "rollout")
    config = plane.config(room)
    result = rollout(plane.versions["v1"], plane.registry, config, cluster=cluster)
    assert (result["version"], result["reused"]) == ("v1", False)
