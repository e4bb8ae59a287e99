"""A rollout on a real API server; tests/cluster/played_controllers.py says what is played."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from feature_stores import sqlite_store
from played_controllers import (
    SERVICE,
    Controllers,
    Room,
    as_account,
    eventually,
    managed_fields,
    new_room,
)
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import catalogue, write_tiny_version

from feature_repo.store import open_embedded
from recommender.errors import GateFailed, KuberecError
from recommender.files import sha256_file, write_json
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.inference_service import (
    FIELD_MANAGER,
    Canary,
    Serving,
    apply_serving,
    desired,
    read_serving,
)
from serving.kubernetes.api import INFERENCE_SERVICE, Resource
from serving.kubernetes.errors import Conflict
from serving.kubernetes.gateway import GatewayError
from serving.kubernetes.waiting import NotReady, Superseded
from serving.ports import free_ports
from serving.rollout.kserve import rollout
from serving.settings import KubernetesConfig, ServingConfig
from serving.version import ModelVersion

pytestmark = pytest.mark.timeout(180)
ROLE = Path(__file__).parents[2] / "manifests/base/endpoint/rollout-role.yaml"
OWNED = {
    "f:spec": {"f:predictor": {"f:name": {}, "f:model": {"f:storageUri": {}}}},
}


def with_services(store: Path, versions: list[str]) -> None:
    """A FeatureService for each version, as `materialize` leaves one."""
    opened = open_embedded(store)
    from feature_repo.services import recommend_service
    from feature_repo.views import user_history

    view = user_history(store / "offline")
    opened.apply([recommend_service(version, view) for version in versions])


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
    write_json(store / "versions.json", [VERSION, "v2"])
    with_services(store, ["v1", "v2"])
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


@pytest.fixture
def serving_v1(room: Room, setting: Setting, controllers: Controllers) -> Room:
    rollout(setting.versions["v1"], setting.registry, setting.config(room))
    return room


def test_a_later_version_comes_to_the_same_slot(serving_v1: Room, setting: Setting) -> None:
    result = rollout(setting.versions["v2"], setting.registry, setting.config(serving_v1))
    assert (result["version"], result["reused"], result["previous"]) == ("v2", False, "v1")
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", setting.uri("v2"))
    assert managed_fields(service, FIELD_MANAGER) == OWNED


def test_an_image_that_cannot_be_pulled_is_told_and_the_old_version_put_back(
    serving_v1: Room, setting: Setting, controllers: Controllers
) -> None:
    message = 'Back-off pulling image "kuberec/transformer:9"'
    controllers.statuses[setting.uri("v2")] = {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "transformer-container",
                "image": "kuberec/transformer:9",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
            }
        ],
    }
    with pytest.raises(NotReady) as failed:
        rollout(setting.versions["v2"], setting.registry, setting.config(serving_v1))
    text = str(failed.value)
    assert text.startswith("version v2 on InferenceService 'recommend' will not be ready:\n  pod '")
    assert "container 'transformer-container': image 'kuberec/transformer:9' cannot be" in text
    assert text.endswith("\nVersion v1 has been put back, and serves.")
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", setting.uri("v1"))


def test_a_gateway_that_leads_elsewhere_puts_the_old_version_back(
    serving_v1: Room, setting: Setting, controllers: Controllers
) -> None:
    controllers.rolled_out = lambda uri: None  # the gateway goes on to answer by v1
    config = setting.config(serving_v1, answer_timeout_s=1.0)
    with pytest.raises(GatewayError, match=r"does not answer by version v2 .* last: version v1"):
        rollout(setting.versions["v2"], setting.registry, config)
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service).storage_uri == setting.uri("v1")


def test_a_failed_gate_puts_the_old_version_back(serving_v1: Room, setting: Setting) -> None:
    # What answers as v2 is v2, but the folder that is rolled out claims other answers.
    golden = setting.versions["v2"] / "golden.json"
    right = golden.read_text()
    sealed = (setting.versions["v2"] / "kuberec.json").read_text()
    golden.write_text(right.replace('"item-', '"other-'))
    digest = sha256_file(golden)
    wrong = sealed.replace(ModelVersion.model_validate_json(sealed).files["golden.json"], digest)
    (setting.versions["v2"] / "kuberec.json").write_text(wrong)
    try:
        config = setting.config(serving_v1, model_store="pvc://models/wrong")
        with pytest.raises(GateFailed) as failed:
            rollout(setting.versions["v2"], setting.registry, config)
    finally:
        golden.write_text(right)
        (setting.versions["v2"] / "kuberec.json").write_text(sealed)
    assert "FAIL gateway, grpc: least top-K overlap" in str(failed.value)
    assert str(failed.value).endswith("Version v1 has been put back, and serves.")
    assert {check.passed for check in failed.value.checks} == {True, False}


def test_a_version_set_by_hand_is_not_overwritten(serving_v1: Room, setting: Setting) -> None:
    by_hand = {"spec": {"predictor": {"model": {"storageUri": "pvc://models/by-hand"}}}}
    serving_v1.patch(INFERENCE_SERVICE, SERVICE, by_hand, fieldManager="kubectl-edit")
    config = setting.config(serving_v1)
    with pytest.raises(Conflict) as refused:
        rollout(setting.versions["v2"], setting.registry, config)
    assert "'kubectl-edit' owns .spec.predictor.model.storageUri" in str(refused.value)
    assert "--force" in str(refused.value)
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service).storage_uri == "pvc://models/by-hand"
    result = rollout(setting.versions["v2"], setting.registry, config, force=True)
    assert result["previous"] == "by-hand"
    assert managed_fields(serving_v1.get(INFERENCE_SERVICE, SERVICE), FIELD_MANAGER) == OWNED


def test_manifests_applied_again_leave_the_version(serving_v1: Room, setting: Setting) -> None:
    serving_v1.apply_shape(image="kuberec/transformer:0.1.1")
    service = serving_v1.get(INFERENCE_SERVICE, SERVICE)
    assert read_serving(service) == Serving("blue", setting.uri("v1"))
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == "kuberec/transformer:0.1.1"


def test_another_rollout_meanwhile_is_left_alone(room: Room, setting: Setting) -> None:
    """Without controllers, so that the first rollout waits for the second."""
    found: list[BaseException] = []

    def first() -> None:
        try:
            rollout(setting.versions["v1"], setting.registry, setting.config(room))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    eventually(lambda: read_serving(room.get(INFERENCE_SERVICE, SERVICE)).storage_uri)
    apply_serving(room.cluster, room.name, SERVICE, Serving("blue", setting.uri("v2")))
    thread.join(30)
    assert isinstance(found[0], Superseded)
    assert read_serving(room.get(INFERENCE_SERVICE, SERVICE)).storage_uri == setting.uri("v2")


def test_nobody_makes_the_pods(room: Room, setting: Setting) -> None:
    config = setting.config(room, ready_timeout_s=1.0)
    with pytest.raises(NotReady, match="is KServe's controller running") as failed:
        rollout(setting.versions["v1"], setting.registry, config)
    assert "No other version served, so v1 stays set" in str(failed.value)


def test_a_killed_rollout_is_continued(room: Room, setting: Setting) -> None:
    """Killed while it waits for pods that nobody makes ready; later somebody does."""
    with Controllers(room) as played:
        played.rolled_out = lambda uri: setting.gateway.switch(uri.rpartition("/")[2])
        rollout(setting.versions["v1"], setting.registry, setting.config(room))
    config = setting.config(room)
    program = (
        "import sys; from pathlib import Path; from serving.rollout.kserve import rollout; "
        "from serving.settings import ServingConfig; "
        "rollout(Path(sys.argv[1]), Path(sys.argv[2]), "
        "ServingConfig.model_validate_json(sys.argv[3]))"
    )
    arguments = [setting.versions["v2"], setting.registry, config.model_dump_json()]
    killed = subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)])
    try:
        eventually(
            lambda: (
                read_serving(room.get(INFERENCE_SERVICE, SERVICE)).storage_uri == setting.uri("v2")
            ),
            60,
        )
    finally:
        killed.kill()
        killed.wait()
    with Controllers(room) as played:
        played.rolled_out = lambda uri: setting.gateway.switch(uri.rpartition("/")[2])
        result = rollout(setting.versions["v2"], setting.registry, config)
    assert (result["version"], result["previous"]) == ("v2", "v1")


def test_a_canary_under_way_is_not_run_over(serving_v1: Room, setting: Setting) -> None:
    canary = Canary("green", setting.uri("v2"), 25)
    serving = Serving("blue", setting.uri("v1"), canary)
    stored = apply_serving(serving_v1.cluster, serving_v1.name, SERVICE, serving)
    sent = desired(serving_v1.name, SERVICE, serving)
    assert stored["spec"]["canary"] == sent["spec"]["canary"]
    assert read_serving(stored) == serving
    with pytest.raises(KuberecError, match="has a canary under way \\(v2 at 25 %\\)"):
        rollout(setting.versions["v2"], setting.registry, setting.config(serving_v1))


def test_the_role_of_the_manifests_is_enough(
    room: Room, setting: Setting, controllers: Controllers
) -> None:
    rbac = "rbac.authorization.k8s.io/v1"
    for body in yaml.safe_load_all(ROLE.read_text(encoding="utf-8")):
        kind = body["kind"]
        for subject in body.get("subjects", []):
            subject["namespace"] = room.name
        room.create(Resource(rbac, f"{kind.lower()}s", kind), body)
    cluster = as_account(room, "rollout")
    config = setting.config(room)
    result = rollout(setting.versions["v1"], setting.registry, config, cluster=cluster)
    assert (result["version"], result["reused"]) == ("v1", False)
