"""Who is to get more requests has the pods for them before."""

from collections.abc import Iterator

import pytest
from canary_case import BLUE, GREEN, Beside, Case, bind_role, new_case
from data_plane import DataPlane
from room import Object, as_account, eventually

from serving.kubernetes.api import SCALED_OBJECT
from serving.kubernetes.replicas import SCALE_MANAGER, available
from serving.rollout.kserve import canary
from serving.rollout.outcome import RolloutStopped

pytestmark = pytest.mark.timeout(240)
HELD = "autoscaling.keda.sh/paused-scale-in"


class Large(Case):
    """A case in which stable has three pods, and each slot a ScaledObject.

    Attributes:
        steps: at each change of the route: its shares, pods of blue and green, slots held.
    """

    steps: list[tuple[dict[str, int], tuple[int, int], list[str]]]

    def pods(self) -> tuple[int, int]:
        return available(self.deployment(BLUE)), available(self.deployment(GREEN))

    def scaled(self, slot: str) -> Object:
        return self.room.get(SCALED_OBJECT, f"recommend-{slot}")

    def held(self) -> list[str]:
        slots = ("blue", "green")
        return [slot for slot in slots if HELD in (self.scaled(slot)["metadata"]["annotations"])]

    def scale_blue(self, replicas: int) -> None:
        self.room.cluster.scale(self.room.name, BLUE, replicas)
        eventually(lambda: self.pods()[0] == replicas and self.target().observe().stable_ready)

    def note_steps(self) -> None:
        routed, self.steps = self.controllers.routed, []

        def note(shares: dict[str, int]) -> None:
            self.steps.append((shares, self.pods(), self.held()))
            routed(shares)

        self.controllers.routed = note


@pytest.fixture
def case(plane: DataPlane) -> Iterator[Large]:
    with new_case(plane) as made:
        made.__class__ = Large
        assert isinstance(made, Large)
        for slot in ("blue", "green"):
            spec = {
                "scaleTargetRef": {"name": f"recommend-{slot}-predictor"},
                "minReplicaCount": 1,
                "maxReplicaCount": 4,
                "triggers": [{"type": "cpu", "metadata": {"value": "70"}}],
            }
            metadata = {"name": f"recommend-{slot}", "annotations": {"team": "shop"}}
            kind = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"}
            made.room.create(SCALED_OBJECT, {**kind, "metadata": metadata, "spec": spec})
        made.scale_blue(3)
        made.note_steps()
        yield made


def test_a_canary_that_takes_over_has_the_pods_of_stable(case: Large) -> None:
    bind_role(case.room)

    case.roll_out("v2", as_account(case.room, "rollout"))

    at_all = next(each for each in case.steps if each[0] == {"v1": 0, "v2": 100})
    assert at_all[1] == (3, 3)
    assert at_all[2] == ["green"]  # its autoscaler, which sees no load yet, lets it have them
    at_25 = next(each for each in case.steps if each[0] == {"v1": 75, "v2": 25})
    assert at_25[1] == (3, 1)
    case.assert_alone("v2", "green")
    assert case.held() == []
    managers = {each["manager"] for each in case.scaled("green")["metadata"]["managedFields"]}
    assert SCALE_MANAGER not in managers
    assert case.scaled("green")["metadata"]["annotations"] == {"team": "shop"}


def test_a_canary_for_which_nodes_have_no_room_is_rolled_back(case: Large) -> None:
    case.controllers.nodes[case.plane.uri("v2")] = 1

    with pytest.raises(RolloutStopped) as stopped:
        case.roll_out("v2", ready_timeout_s=4.0)

    ended = stopped.value.rollout
    assert ended.status == "rolled_back"
    expected = "for 100 % of the requests, Deployment 'recommend-green-predictor' has 1 of the 3"
    assert expected in ended.reason
    # A scheduler that has no node at all may say it in its own words, over those of the case.
    reasons = "0/1 nodes are available: 1 Insufficient cpu.", "no nodes available to schedule pods"
    assert any(f"finds no node ({each})" in ended.reason for each in reasons), ended.reason
    case.assert_alone("v1", "blue")
    assert {"v1": 0, "v2": 100} not in [each[0] for each in case.steps]


def given_up(case: Large, room: int) -> None:
    """A canary at 25 %, while stable's autoscaler has taken two of its pods.

    Args:
        room: how many of stable's pods find a node from then on.
    """
    with Beside(case, "v2", limits={"steps": [{"percent": 25, "bake_s": 60.0}, 100]}) as beside:
        eventually(lambda: case.percent() == 25 and case.record().steps[0].looks, 60)
        case.scale_blue(1)
        case.controllers.nodes[case.plane.uri("v1")] = room
        case.target().request("abort")
    assert isinstance(beside.result, RolloutStopped)
    assert beside.result.rollout.status == "rolled_back"
    case.assert_alone("v1", "blue")


def test_requests_go_back_to_as_many_pods_as_they_came_from(case: Large) -> None:
    given_up(case, room=3)

    assert case.pods()[0] == 3
    back = next(each for each in case.steps[1:] if each[0]["v1"] == 100)
    assert back[1][0] == 3
    assert "blue" in back[2]
    assert case.held() == []


def test_requests_go_back_also_where_nodes_have_no_room(
    case: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "_BACK_S", 3.0)

    given_up(case, room=1)

    assert case.pods()[0] == 1
    told = "stable gets 100 % all the same: Deployment 'recommend-blue-predictor' has 1 of the 3"
    assert any(told in line for line in case.said)
