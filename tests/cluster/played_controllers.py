"""What a control plane alone lacks, played through the same API that the real ones use.

The API server, the Deployment controller and everything they check are real. Played are KServe's
controller, as far as a rollout depends on it, and the kubelet (the pods' status). Of KServe's
controller that is what docs of its canary and measurements say: a canary gets its share once it is
available, pods are taken away before the routes are changed, and while stable's predictor is not
ready the routes are left as they are.
"""

import threading
import time
from typing import Any

from kubernetes.client import ApiException
from played_objects import NO_NODE, READY, SOURCE_URI, autoscaler, deployment_of, owner
from room import SERVICE, Object, Room

from serving.inference_service import SLOTS, Canary, Serving, deployment_name, read_serving
from serving.kubernetes.api import AUTOSCALER, DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, POD
from serving.kubernetes.errors import ClusterError

_SLOTS = (None, *SLOTS)
ROUTES = (SERVICE, f"{SERVICE}-predictor")


class Controllers(threading.Thread):
    """KServe's controller and a kubelet.

    Args:
        address: where pods can be reached, as their status says.
        autoscalers: whether an HPA is made for every Deployment, and left behind with it, as
            KServe does for the classes hpa and keda.

    Attributes:
        statuses: what a pod of a storageUri reports, by default that it runs and is ready.
        nodes: how many pods of a storageUri find one, by default all.
        frozen: whether they do nothing.
        lost: Deployments that were taken away while the route still led to them.
        routed: called with {version: percent} when the clients' route has changed.
    """

    def __init__(
        self, room: Room, address: str | None = None, *, autoscalers: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.room, self.statuses = room, dict[str, Object]()
        self.address, self.autoscalers = address, autoscalers
        self.routed = lambda shares: None
        self.nodes, self.frozen = dict[str, int](), False
        self.lost: list[str] = []
        self.errors: list[Exception] = []
        self._weights: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self._ended = threading.Event()

    def __enter__(self) -> "Controllers":
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.15):
            try:
                if not self.frozen:
                    self._reconcile()
            except (ApiException, ClusterError) as error:  # conflicts with the real controllers
                self.errors.append(error)

    def _reconcile(self) -> None:
        service = self.room.get(INFERENCE_SERVICE, SERVICE)
        serving = read_serving(service)
        if serving.storage_uri is None:
            return
        stable = deployment_name(SERVICE, serving.slot)
        wanted = {stable: serving.storage_uri}
        if (canary := serving.canary) is not None:
            wanted[deployment_name(SERVICE, canary.slot)] = canary.storage_uri
        self._remove_others(set(wanted))
        available = {
            name: self._run(service, name, uri, all_of_it=name == stable)
            for name, uri in wanted.items()
        }
        ready = available[stable]
        if ready:
            self._route(service, serving, available)
        self._tell(serving, ready)

    def _remove_others(self, keep: set[str]) -> None:
        """At once, as KServe does: whoever is not named any more."""
        for slot in _SLOTS:
            name = deployment_name(SERVICE, slot)
            found = self.room.cluster.find(DEPLOYMENT, self.room.name, name)
            if name in keep or found is None or found["metadata"].get("deletionTimestamp"):
                continue
            if self._weights.get(name):
                self.lost.append(name)
            self.room.call("DELETE", self.room.path(DEPLOYMENT, name))
            time.sleep(0.5)  # in which the route is as it was

    def _run(self, service: Object, name: str, uri: str, all_of_it: bool) -> bool:
        """Its Deployment, whose number of pods is left alone, and its pods' status.

        Whether it counts as available: of stable all pods must be, of a canary one.
        """
        metadata = {"name": name, "ownerReferences": [owner(service)]}
        body = {**deployment_of(name, uri), "metadata": metadata}
        path = self.room.path(DEPLOYMENT, name)
        self.room.call("PATCH", path, body, "apply", fieldManager="kserve", force="true")
        if self.autoscalers:
            path, body = self.room.path(AUTOSCALER, name), autoscaler(name)
            body["metadata"] = metadata
            self.room.call("PATCH", path, body, "apply", fieldManager="kserve", force="true")
        label = f"app=isvc.{name}"
        pods = self.room.cluster.find_all(POD, self.room.name, labelSelector=label)
        for number, pod in enumerate(sorted(pods, key=_age)):
            status = self.statuses.get(pod["metadata"]["annotations"][SOURCE_URI], READY)
            if number >= self.nodes.get(uri, 100):
                status = NO_NODE
            elif self.address:
                status = status | {"podIP": self.address, "podIPs": [{"ip": self.address}]}
            self.room.patch_status(POD, pod["metadata"]["name"], status)
        deployment = self.room.get(DEPLOYMENT, name)
        found = deployment.get("status") or {}
        if not all_of_it:
            return bool(found.get("availableReplicas"))
        replicas = deployment["spec"]["replicas"]
        return bool(
            found.get("observedGeneration") == deployment["metadata"]["generation"]
            and found.get("updatedReplicas") == found.get("replicas") == replicas
            and found.get("availableReplicas") == replicas
        )

    def _route(self, service: Object, serving: Serving, available: dict[str, bool]) -> None:
        stable, canary = deployment_name(SERVICE, serving.slot), serving.canary
        weights, shares = {stable: 100}, {_version(serving.storage_uri): 100}
        if canary is not None and available[deployment_name(SERVICE, canary.slot)]:
            weights = {stable: 100 - canary.percent, deployment_name(SERVICE, canary.slot): 0}
            weights[deployment_name(SERVICE, canary.slot)] = canary.percent
            shares = _shares(serving, canary)
        if weights == self._weights:
            if shares != self._shares:  # pods of another version behind the same name
                self._shares = shares
                self.routed(shares)
            return
        references = [
            {"name": name, "port": 80} | ({"weight": weight} if len(weights) > 1 else {})
            for name, weight in weights.items()
        ]
        rules = [
            {"matches": [{"path": {"value": path}}], "backendRefs": references}
            for path in ("/inference.GRPCInferenceService/", "/")
        ]
        routes = []
        for name in ROUTES:
            body = {
                "apiVersion": HTTP_ROUTE.group_version,
                "kind": HTTP_ROUTE.kind,
                "metadata": {"name": name, "ownerReferences": [owner(service)]},
                "spec": {
                    "hostnames": [f"{name}-test.example.com"],
                    "parentRefs": [{"name": "gateway", "namespace": self.room.name}],
                    "rules": rules,
                },
            }
            path = self.room.path(HTTP_ROUTE, name)
            made = self.room.call("PATCH", path, body, "apply", fieldManager="kserve", force="true")
            routes.append(made)
        self._weights, self._shares = weights, shares
        self.routed(shares)
        for made in routes:
            self.room.patch_status(HTTP_ROUTE, made["metadata"]["name"], _taken(made))

    def _tell(self, serving: Serving, ready: bool) -> None:
        status = "True" if ready else "False"
        conditions = [{"type": kind, "status": status} for kind in ("PredictorReady", "Ready")]
        if not ready:
            conditions[0] |= {"reason": "MinimumReplicasUnavailable"}
        name = deployment_name(SERVICE, serving.slot)
        deployment = self.room.get(DEPLOYMENT, name).get("status") or {}
        # As KServe 0.21 has it, the number is the Deployment's.
        seen = {"observedGeneration": deployment.get("observedGeneration", 0)}
        self.room.patch_status(INFERENCE_SERVICE, SERVICE, seen | {"conditions": conditions})


def _taken(route: Object) -> Object:
    """What the gateway's controller says of a route that it has."""
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": kind,
            "message": "",
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parent = {
        "parentRef": route["spec"]["parentRefs"][0],
        "controllerName": "example.com/gateway",
        "conditions": conditions,
    }
    return {"parents": [parent]}


def _version(uri: str | None) -> str:
    return str(uri).rpartition("/")[2]


def _shares(serving: Serving, canary: Canary) -> dict[str, int]:
    return {
        _version(serving.storage_uri): 100 - canary.percent,
        _version(canary.storage_uri): canary.percent,
    }


def _age(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]
