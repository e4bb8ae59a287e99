"""A rollout on a real API server; tests/cluster/played_controllers.py says what is played."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from feature_stores import sqlite_store
from played_controllers import SERVICE, Controllers, Room, eventually, managed_fields, new_room
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import catalogue, write_tiny_version

from recommender.errors import GateFailed
from recommender.files import write_json
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.inference_service import FIELD_MANAGER, Serving, apply_serving, desired, read_serving
from serving.kubernetes.api import INFERENCE_SERVICE
from serving.kubernetes.errors import Conflict
from serving.kubernetes.waiting import NotReady, Superseded
from serving.ports import free_ports
from serving.rollout.kserve import rollout
from serving.settings import KubernetesConfig, ServingConfig

pytestmark = [
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no KUBECONFIG"),
    pytest.mark.timeout(180),
]
OWNED = {
    "f:spec": {"f:predictor": {"f:name": {}, "f:model": {"f:storageUri": {}}}},
}


@pytest.fixture
def room() -> Iterator[Room]:
    with new_room() as made:
        made.apply_manifests()
        yield made


class Setting:
    """Two versions, their registry, a store, and an endpoint that stands for the gateway."""

    def __init__(self, folder: Path, gateway: EmbeddedEndpoint) -> None:
        self.folder, self.gateway = folder, gateway
        self.registry = folder / "registry.db"
        self.registry.write_bytes(b"recommend_v1 recommend_v2")
        self.versions = {name: folder / name for name in ("v1", "v2")}
        (folder / "models").mkdir()

    def config(self, room: Room, **changes: object) -> ServingConfig:
        kubernetes = {
            "namespace": room.name,
            "model_store": "pvc://models/versions",
            "model_store_mount": str(self.folder / "models"),
            "gateway": self.gateway.url,
            "ready_timeout_s": 60.0,
            "answer_timeout_s": 20.0,
        }
        return ServingConfig(kubernetes=KubernetesConfig.model_validate(kubernetes | changes))

    def uri(self, version: str) -> str:
        return f"pvc://models/versions/{version}"


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("rollout")
    write_tiny_version(folder / "v1", catalogue(), "v1")
    write_tiny_version(folder / "v2", catalogue(), "v2", seed=1)
    store = sqlite_store(folder / "home" / "feature_store", HISTORIES)
    write_json(store / "versions.json", [VERSION])
    port, admin_port = free_ports(2)
    endpoint = EmbeddedEndpoint(folder / "home", ServingConfig(port=port, admin_port=admin_port))
    try:
        for name in ("v1", "v2"):
            endpoint.install(folder / name)
        endpoint.switch("v1")
        yield Setting(folder, endpoint)
    finally:
        endpoint.stop_all()


@pytest.fixture
def controllers(room: Room, setting: Setting) -> Iterator[Controllers]:
    with Controllers(room) as played:
        played.rolled_out = lambda uri: setting.gateway.switch(uri.rpartition("/")[2])
        yield played


def test_the_first_version(room: Room, setting: Setting, controllers: Controllers) -> None:
    told: list[str] = []
    config = setting.config(room)
    result = rollout(setting.versions["v1"], setting.registry, config, told.append)
    assert (result["version"], result["reused"], result["previous"]) == ("v1", False, None)
    assert result["storage_uri"] == setting.uri("v1")
    assert all(row["passed"] for row in result["rows"])
    assert f"setting v1 in InferenceService '{SERVICE}'" in told
    service = room.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", setting.uri("v1"))
    assert managed_fields(service, FIELD_MANAGER) == OWNED
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}

    generation = service["metadata"]["generation"]
    again = rollout(setting.versions["v1"], None, config)
    assert again["reused"]
    assert len(again["rows"]) == len(result["rows"])
    assert room.get(INFERENCE_SERVICE, SERVICE)["metadata"]["generation"] == generation
