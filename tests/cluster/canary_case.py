"""A namespace in which v1 serves, and the means to roll another version out beside it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from data_plane import Clients, DataPlane
from local_doors import LocalDoors
from played_controllers import Controllers
from room import SERVICE, Object, Room, eventually, new_room

from recommender.errors import KuberecError
from serving.inference_service import FIELD_MANAGER, Serving, read_serving
from serving.kubernetes.api import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    INFERENCE_SERVICE,
    Cluster,
    Resource,
)
from serving.rollout.kserve.rollout import rollout
from serving.rollout.kserve.target import KServeTarget
from serving.rollout.record import Rollout

_ROLE = Path(__file__).parents[2] / "manifests/base/endpoint/rollout-role.yaml"
BLUE, GREEN = f"{SERVICE}-blue-predictor", f"{SERVICE}-green-predictor"


class Case:
    """What a test does and asks."""

    def __init__(
        self, room: Room, plane: DataPlane, controllers: Controllers, clients: Clients
    ) -> None:
        self.room, self.plane, self.controllers = room, plane, controllers
        self._clients = clients
        self.said: list[str] = []

    def roll_out(
        self,
        version: str,
        cluster: Cluster | None = None,
        limits: dict[str, Any] | None = None,
        force: bool = False,
        canary: bool = True,
        **changes: object,
    ) -> dict[str, Any]:
        return rollout(
            self.plane.versions[version],
            self.plane.registry,
            self.plane.config(self.room, limits, **changes),
            self.said.append,
            force=force,
            canary=canary,
            cluster=cluster,
            doors=self.doors(cluster),
        )

    def doors(self, cluster: Cluster | None = None) -> LocalDoors:
        return LocalDoors(cluster or self.room.cluster, self.room.name, self.plane.doors)

    def target(self) -> KServeTarget:
        """As `kuberec rollout` has it."""
        return KServeTarget(self.plane.config(self.room), say=self.said.append)

    def serving(self) -> Serving:
        return read_serving(self.room.get(INFERENCE_SERVICE, SERVICE))

    def percent(self) -> int | None:
        """What the canary is to have; None: there is no canary."""
        canary = self.serving().canary
        return canary.percent if canary else None

    def deployment(self, name: str) -> Object | None:
        return self.room.cluster.find(DEPLOYMENT, self.room.name, name)

    def record(self) -> Rollout:
        data = self.room.get(CONFIG_MAP, f"{SERVICE}-rollout")["data"]
        return Rollout.model_validate_json(data["rollout.json"])

    def events(self) -> set[tuple[str, str]]:
        """Type and reason of those that rollouts left at the InferenceService."""
        found = self.room.cluster.find_all(EVENT, self.room.name)
        return {
            (each["type"], each["reason"])
            for each in found
            if each.get("reportingComponent") == FIELD_MANAGER
            and each["involvedObject"]["kind"] == INFERENCE_SERVICE.kind
        }

    def assert_alone(self, version: str, slot: str) -> None:
        """It serves, the other slot is empty, and no request was lost on the way."""
        assert self.serving() == Serving(slot, self.plane.uri(version)), self.said
        eventually(lambda: self.deployment(BLUE if slot == "green" else GREEN) is None)
        assert self.controllers.lost == []
        assert self._clients.failed == []


class Beside(threading.Thread):
    """A rollout that goes on while the test does something else.

    Attributes:
        result: what it returned, or the error that it raised.
    """

    def __init__(self, case: Case, version: str, **changes: Any) -> None:
        super().__init__(daemon=True)
        self._case, self._version, self._changes = case, version, changes
        self.result: dict[str, Any] | BaseException | None = None

    def __enter__(self) -> "Beside":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(120)
        assert not self.is_alive(), self._case.said

    def run(self) -> None:
        try:
            self.result = self._case.roll_out(self._version, **self._changes)
        except KuberecError as error:
            self.result = error


@contextmanager
def new_case(plane: DataPlane) -> Iterator[Case]:
    """v1 serves in slot blue; KServe makes autoscalers, and leaves them."""
    plane.start_over()
    with new_room() as room:
        room.apply_manifests()
        plane.scraped_as(room, {"v1": "blue", "v2": "green", "v3": "green"})
        clients, played = (
            Clients(plane.gateway.url),
            Controllers(room, plane.address, autoscalers=True),
        )
        with clients, played as controllers:
            controllers.routed = plane.routed
            made = Case(room, plane, controllers, clients)
            made.roll_out("v1")
            made.said.clear()
            yield made


def bind_role(room: Room) -> None:
    """The Role of the manifests, for the room's account `rollout`."""
    rbac = "rbac.authorization.k8s.io/v1"
    for body in yaml.safe_load_all(_ROLE.read_text(encoding="utf-8")):
        for subject in body.get("subjects", []):
            subject["namespace"] = room.name
        room.create(Resource(rbac, f"{body['kind'].lower()}s", body["kind"]), body)
