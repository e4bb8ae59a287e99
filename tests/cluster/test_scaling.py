"""A rollout wakes the autoscaler of a slot that KEDA has not seen filled yet."""

import json
from collections.abc import Iterator

import pytest

from serving.inference_service import FIELD_MANAGER
from serving.kubernetes.api import SCALED_OBJECT
from serving.kubernetes.scaling import wake_autoscaler
from tests.cluster.room import Object, Room, new_room

PAUSED = "autoscaling.keda.sh/paused"


@pytest.fixture
def room() -> Iterator[Room]:
    with new_room() as made:
        made.create(
            SCALED_OBJECT,
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": {"name": "recommend-blue", "annotations": {"team": "shop"}},
                "spec": {
                    "scaleTargetRef": {"name": "recommend-blue-predictor"},
                    "triggers": [{"type": "cpu", "metadata": {"value": "70"}}],
                },
            },
        )
        yield made


def _wake(room: Room, slot: str = "blue") -> list[str]:
    told: list[str] = []
    wake_autoscaler(room.cluster, room.name, "recommend", slot, told.append)
    return told


def _scaled(room: Room) -> Object:
    return room.get(SCALED_OBJECT, "recommend-blue")


def _history(room: Room, since: str) -> list[Object]:
    """Every state that a watch of the API sees after `since`, as KEDA's would."""
    lines = room.raw.call_api(
        room.path(SCALED_OBJECT),
        "GET",
        query_params=[("watch", "true"), ("resourceVersion", since), ("timeoutSeconds", "1")],
        header_params={"Accept": "application/json"},
        response_type="str",
        auth_settings=["BearerToken"],
        _return_http_data_only=True,
    )
    return [json.loads(line)["object"] for line in lines.splitlines()]


def test_one_that_waits_is_paused_for_a_moment(room: Room) -> None:
    before = _scaled(room)

    assert _wake(room) == ["waking ScaledObject 'recommend-blue'"]

    annotations = [
        each["metadata"].get("annotations")
        for each in _history(room, before["metadata"]["resourceVersion"])
    ]
    assert {"team": "shop", PAUSED: "true"} in annotations
    assert annotations[-1] == {"team": "shop"}
    after = _scaled(room)
    assert after["spec"] == before["spec"]
    managers = {each["manager"] for each in after["metadata"]["managedFields"]}
    assert FIELD_MANAGER not in managers  # it owns nothing of it any more


def test_one_that_scales_is_left_alone(room: Room) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Played", "message": ""}
    for _ in range(20):  # a KEDA that runs where the tests do knows better, and says so
        room.patch_status(SCALED_OBJECT, "recommend-blue", {"conditions": [ready]})
        told = _wake(room)
        if not told:
            break

    assert told == []
    assert _scaled(room)["metadata"]["annotations"] == {"team": "shop"}


@pytest.mark.parametrize("annotation", [PAUSED, f"{PAUSED}-replicas"])
def test_an_operators_pause_is_left_alone(room: Room, annotation: str) -> None:
    room.patch(SCALED_OBJECT, "recommend-blue", {"metadata": {"annotations": {annotation: "2"}}})

    assert _wake(room) == []
    assert _scaled(room)["metadata"]["annotations"][annotation] == "2"


def test_autoscaling_of_the_operators_own_is_no_error(room: Room) -> None:
    assert _wake(room, "green") == []
