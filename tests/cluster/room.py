"""A namespace of a real API server, and the means to change it as an operator would."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, config

from serving.kubernetes.api import HTTP_ROUTE, INFERENCE_SERVICE, Cluster, Resource, connect

SERVICE, RUNTIME = "recommend", "kuberec-triton"
HOST = "recommend-test.example.com"
Object = dict[str, Any]
NAMESPACE = Resource("v1", "namespaces", "Namespace")


class Room:
    """One namespace, and the means to change it as an operator or a controller would."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.raw = client.ApiClient(_kubeconfig())
        self.cluster = connect()

    def call(
        self, method: str, path: str, body: Any = None, kind: str = "json", **query: str
    ) -> Any:
        types = {
            "json": "application/json",
            "merge": "application/merge-patch+json",
            "apply": "application/apply-patch+yaml",
        }
        return self.raw.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": types[kind]},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )

    def path(self, resource: Resource, name: str = "", sub: str = "") -> str:
        parts = [f"{resource.root}/namespaces/{self.name}/{resource.plural}", name, sub]
        return "/".join(part for part in parts if part)

    def create(self, resource: Resource, body: Object) -> Object:
        return self.call("POST", self.path(resource), body)

    def get(self, resource: Resource, name: str) -> Object:
        return self.cluster.get(resource, self.name, name)

    def patch(self, resource: Resource, name: str, body: Object, **query: str) -> Object:
        return self.call("PATCH", self.path(resource, name), body, "merge", **query)

    def patch_status(self, resource: Resource, name: str, status: Object) -> Object:
        return self.call("PATCH", self.path(resource, name, "status"), {"status": status}, "merge")

    def apply_manifests(self) -> None:
        """What `kubectl apply --server-side` of an overlay leaves: a runtime, a service's shape."""
        self.create(
            Resource("serving.kserve.io/v1alpha1", "servingruntimes", "ServingRuntime"),
            {
                "apiVersion": "serving.kserve.io/v1alpha1",
                "kind": "ServingRuntime",
                "metadata": {"name": RUNTIME},
                "spec": {
                    "supportedModelFormats": [{"name": "triton"}],
                    "containers": [{"name": "kserve-container", "image": "kuberec/triton:0.1.0"}],
                },
            },
        )
        self.apply_shape("kuberec/transformer:0.1.0")
        self.create(
            HTTP_ROUTE,
            {
                "apiVersion": HTTP_ROUTE.group_version,
                "kind": HTTP_ROUTE.kind,
                "metadata": {"name": SERVICE},
                "spec": {
                    "hostnames": [HOST],
                    "parentRefs": [{"name": "gateway", "namespace": self.name}],
                },
            },
        )

    def apply_shape(self, image: str) -> None:
        body = {
            "apiVersion": INFERENCE_SERVICE.group_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {
                "name": SERVICE,
                "annotations": {"serving.kserve.io/deploymentMode": "Standard"},
            },
            "spec": {
                "predictor": {
                    "minReplicas": 1,
                    "model": {
                        "modelFormat": {"name": "triton"},
                        "runtime": RUNTIME,
                        "protocolVersion": "v2",
                    },
                    "containers": [{"name": "transformer-container", "image": image}],
                }
            },
        }
        path = self.path(INFERENCE_SERVICE, SERVICE)
        self.call("PATCH", path, body, "apply", fieldManager="kubectl", force="false")


def as_account(room: Room, account: str) -> Cluster:
    """The API as a ServiceAccount of the room sees it, by impersonation."""
    raw = client.ApiClient(room.raw.configuration)
    raw.set_default_header("Impersonate-User", f"system:serviceaccount:{room.name}:{account}")
    raw.set_default_header("Impersonate-Group", "system:serviceaccounts")
    return Cluster(raw)


def _kubeconfig() -> Any:
    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    return configuration


@contextmanager
def new_room() -> Iterator[Room]:
    """A namespace of its own, which goes with the block."""
    room = Room(f"rollout-{uuid.uuid4().hex[:8]}")
    room.call("POST", "/api/v1/namespaces", {"metadata": {"name": room.name}})
    try:
        yield room
    finally:
        room.call("DELETE", f"/api/v1/namespaces/{room.name}")


def managed_fields(thing: Object, manager: str) -> Object:
    """What a field manager owns by server-side apply."""
    for entry in thing["metadata"]["managedFields"]:
        if entry["manager"] == manager and entry["operation"] == "Apply":
            return dict(entry["fieldsV1"])
    return {}


def eventually(check: Any, timeout_s: float = 20.0) -> Any:
    """The first true answer of `check`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(Exception):
            if found := check():
                return found
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)
