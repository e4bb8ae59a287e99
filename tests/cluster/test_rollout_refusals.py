"""What the API server refuses, and pods in bad states: one clear message each."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from room import SERVICE, Room, as_account, new_room
from tiny_version import catalogue, write_tiny_version

from recommender.files import read_json
from serving.inference_service import Serving, apply_serving, get_service
from serving.kubernetes.api import EVENT, INFERENCE_SERVICE, POD, Cluster, Resource, connect
from serving.kubernetes.diagnosis import NEVER, Problem, find_problems
from serving.kubernetes.errors import ClusterError, Forbidden, NotFound
from serving.kubernetes.gateway import GatewayError, find_door
from serving.settings import KubernetesConfig

pytestmark = pytest.mark.timeout(120)
URI = "s3://models/versions/v1"


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with new_room() as made:
        made.apply_manifests()
        yield made


def test_a_forbidden_verb_names_verb_resource_and_account(room: Room) -> None:
    stranger = as_account(room, "stranger")
    with pytest.raises(Forbidden) as refused:
        apply_serving(stranger, room.name, SERVICE, Serving("blue", URI))
    assert (
        f"ServiceAccount 'stranger' of namespace '{room.name}' may not patch "
        f"inferenceservices.serving.kserve.io in namespace '{room.name}'"
    ) in str(refused.value)
    assert "Role 'rollout'" in str(refused.value)
    with pytest.raises(Forbidden, match=r"may not list pods in namespace"):
        stranger.find_all(POD, room.name)


def test_an_api_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = client.Configuration()
    configuration.host, configuration.retries = "https://127.0.0.1:9", False
    with pytest.raises(ClusterError, match=r"https://127.0.0.1:9 cannot be reached .*KUBECONFIG"):
        Cluster(client.ApiClient(configuration)).get(POD, "default", "one")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    with pytest.raises(ClusterError, match="no Kubernetes cluster to speak to"):
        connect()


def test_a_stranger_is_told_to_log_in(room: Room) -> None:
    configuration = client.Configuration()
    configuration.host = room.raw.configuration.host
    configuration.ssl_ca_cert = room.raw.configuration.ssl_ca_cert
    configuration.api_key["authorization"] = "Bearer of-somebody-else"
    with pytest.raises(ClusterError, match=r"does not know who asks \(401\)"):
        Cluster(client.ApiClient(configuration)).get(POD, room.name, "one")


def test_what_is_not_there_is_named(room: Room) -> None:
    absent = Resource("serving.kserve.io/v9", "inferenceservices", "InferenceService")
    with pytest.raises(NotFound, match=r"has no resource inferenceservices.serving.kserve.io"):
        room.cluster.get(absent, room.name, SERVICE)
    with pytest.raises(NotFound, match=r"no InferenceService 'other' in namespace .*kubectl apply"):
        get_service(room.cluster, room.name, "other")
    with pytest.raises(NotFound, match="there is no namespace 'no-such'"):
        get_service(room.cluster, "no-such", SERVICE)
    runtime = {"spec": {"predictor": {"model": {"runtime": "another"}}}}
    room.patch(INFERENCE_SERVICE, SERVICE, runtime)
    try:
        with pytest.raises(NotFound, match="names the ServingRuntime 'another', which is not in"):
            get_service(room.cluster, room.name, SERVICE)
    finally:
        runtime["spec"]["predictor"]["model"]["runtime"] = "kuberec-triton"
        room.patch(INFERENCE_SERVICE, SERVICE, runtime)


def test_a_field_that_the_kind_does_not_have_is_refused(room: Room) -> None:
    body = {
        "apiVersion": INFERENCE_SERVICE.group_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": SERVICE, "namespace": room.name},
        "spec": {"predictor": {"storageUrl": URI}},
    }
    with pytest.raises(ClusterError, match="storageUrl"):
        room.cluster.apply(INFERENCE_SERVICE, body, "kuberec-rollout")


def test_the_gateways_address(room: Room) -> None:
    config = KubernetesConfig(namespace=room.name)
    with pytest.raises(NotFound, match="no Gateway 'gateway'"):
        find_door(room.cluster, config)
    listener = {"name": "http", "protocol": "HTTP", "port": 8088}
    kind = Resource("gateway.networking.k8s.io/v1", "gateways", "Gateway")
    room.create(
        kind,
        {
            "apiVersion": kind.group_version,
            "kind": kind.kind,
            "metadata": {"name": "gateway"},
            "spec": {"gatewayClassName": "envoy", "listeners": [listener]},
        },
    )
    with pytest.raises(GatewayError, match="has no address yet"):
        find_door(room.cluster, config)
    room.patch_status(kind, "gateway", {"addresses": [{"value": "10.1.2.3"}]})
    door = find_door(room.cluster, config)
    assert (door.address, door.host) == ("10.1.2.3:8088", "recommend-test.example.com")
    given = KubernetesConfig(namespace=room.name, gateway="https://shop.example.com")
    assert find_door(room.cluster, given)[:1] == ("shop.example.com:443",)
    assert find_door(room.cluster, given).tls


def container(name: str = "kserve-container", restarts: int = 0, **state: Any) -> dict[str, Any]:
    """A container's status."""
    ended = state.pop("ended", None)
    status = {"name": name, "ready": False, "restartCount": restarts, "imageID": ""}
    status |= {"image": "kuberec/triton:9", "state": state}
    return status | ({"lastState": {"terminated": ended}} if ended else {})


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"exitCode": code, "reason": reason}


def crashing(name: str, restarts: int) -> dict[str, Any]:
    return container(name, restarts, waiting={"reason": "CrashLoopBackOff"}, ended=ended(1))


STATES = {
    "image": (
        {"containerStatuses": [container(waiting={"reason": "ErrImagePull", "message": "denied"})]},
        r"container 'kserve-container': image 'kuberec/triton:9' cannot be pulled \(denied\)",
        20,
    ),
    "crash": (
        {"containerStatuses": [crashing("transformer-container", restarts=3)]},
        r"container 'transformer-container': ends again and again \(exit status 1\)",
        10,
    ),
    "first crash": (
        {"containerStatuses": [crashing("kserve-container", restarts=1)]},
        r"ends again and again",
        NEVER,
    ),
    "memory": (
        {
            "containerStatuses": [
                container(restarts=2, running={}, ended=ended(137, "OOMKilled")),
            ]
        },
        r"container 'kserve-container': ran out of memory \(limit 2Gi\): raise its memory limit",
        10,
    ),
    "storage": (
        {"initContainerStatuses": [crashing("storage-initializer", restarts=2)]},
        r"container 'storage-initializer': 's3://models/versions/v1' could not be loaded",
        10,
    ),
    "secret": (
        {
            "containerStatuses": [
                container(
                    waiting={
                        "reason": "CreateContainerConfigError",
                        "message": 'secret "redis" not found',
                    }
                )
            ]
        },
        r'cannot be started \(secret "redis" not found\): make what it names',
        20,
    ),
    "gpu": (
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                }
            ]
        },
        r"finds no node \(0/3 nodes .*Insufficient nvidia.com/gpu.\): no node has a free GPU: add",
        NEVER,
    ),
    "claim": (
        {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": 'persistentvolumeclaim "kuberec-models" not found.',
                }
            ]
        },
        r"create the claim 'kuberec-models' of the model store",
        NEVER,
    ),
}


def problems_of(room: Room, name: str, status: dict[str, Any]) -> list[Problem]:
    """Of a real Pod object with that status, as the kubelet or the scheduler writes it."""
    containers: list[dict[str, Any]] = [
        {
            "name": "kserve-container",
            "image": "kuberec/triton:9",
            "resources": {"limits": {"memory": "2Gi"}},
        },
        {"name": "transformer-container", "image": "kuberec/transformer:9"},
    ]
    spec = {
        "containers": containers,
        "initContainers": [{"name": "storage-initializer", "image": "kserve/storage:1"}],
        "schedulerName": "nobody",  # whose verdict would come between
    }
    room.create(POD, {"metadata": {"name": name}, "spec": spec})
    room.patch_status(POD, name, {"phase": "Pending", **status})
    service = room.get(INFERENCE_SERVICE, SERVICE)
    events = room.cluster.find_all(EVENT, room.name)
    return find_problems(service, {"metadata": {}}, [room.get(POD, name)], events, URI)


@pytest.mark.parametrize("state", STATES)
def test_a_pod_in_a_bad_state_is_explained(room: Room, state: str) -> None:
    status, message, patience_s = STATES[state]
    name = state.replace(" ", "-")
    (problem,) = problems_of(room, name, status)
    assert re.search(message, problem.text), problem.text
    assert problem.text.startswith(f"pod '{name}'")
    assert problem.patience_s == patience_s
    assert (problem.log is not None) == (state in ("crash", "first crash", "memory", "storage"))


def test_a_probe_that_fails_and_a_volume_that_is_not_there_are_told_by_their_events(
    room: Room,
) -> None:
    def event(pod: str, reason: str, message: str) -> None:
        room.create(
            EVENT,
            {
                "metadata": {"name": f"{pod}.{reason.lower()}"},
                "involvedObject": {"kind": "Pod", "name": pod, "namespace": room.name},
                "reason": reason,
                "message": message,
                "type": "Warning",
                "lastTimestamp": "2026-11-24T12:00:00Z",
            },
        )

    event("probe", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
    running = {"containerStatuses": [container("transformer-container", running={})]}
    (problem,) = problems_of(room, "probe", running)
    assert "'transformer-container': runs, but is not ready: Readiness probe failed" in problem.text
    assert problem.log is not None
    event("volume", "FailedMount", 'MountVolume.SetUp failed: configmap "feature-store" not found')
    creating = {"containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}
    (problem,) = problems_of(room, "volume", creating)
    assert 'cannot start (FailedMount): MountVolume.SetUp failed: configmap "feature' in (
        problem.text
    )


def test_a_step_that_fails_leaves_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.rollout import rollout as component

    version = write_tiny_version(tmp_path / "v1", catalogue(), "v1")
    report = tmp_path / "rollout_report"
    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit):
        component.python_func(
            serving={"kubernetes": {"namespace": "no-such"}},
            tracking={"enabled": False},
            model_version=SimpleNamespace(path=str(version)),
            version="v1",
            target="kserve",
            rollout_report=SimpleNamespace(path=str(report)),
            timeline=SimpleNamespace(path=str(tmp_path / "timeline"), uri="s3://bucket/timeline"),
            timeline_text=SimpleNamespace(path=str(tmp_path / "timeline_text")),
        )
    assert "[kuberec:error] there is no namespace 'no-such'" in capsys.readouterr().out
    left = read_json(report)
    assert (left["version"], left["target"], left["rows"]) == ("v1", "kserve", [])
    assert left["failed"].startswith("there is no namespace 'no-such'")


def test_deploy_at_the_command_line(tmp_path: Path) -> None:
    version = write_tiny_version(tmp_path / "v1", catalogue(), "v1")
    root = Path(__file__).parents[2]
    command = [Path(sys.executable).with_name("kuberec"), "deploy"]
    command += [root / "pipelines/configs/movielens-100k.yaml", "--version-dir", version]
    for change, message in (
        ("namespace=no-such", "error: there is no namespace 'no-such': apply the manifests first"),
        ("model_store=ftp://here", "serving.kubernetes.model_store"),
    ):
        done = subprocess.run(
            [*map(str, command), "--set", f"serving.kubernetes.{change}"],
            capture_output=True,
            text=True,
            env=os.environ | {"KUBEREC_HOME": str(tmp_path / "home")},
        )
        assert done.returncode == 1, done.stdout
        assert message in done.stderr + done.stdout
