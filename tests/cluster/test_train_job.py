"""The TrainJob of the train step, as a real API server with Kubeflow Trainer's definition keeps it.

The trainer's controller is played: what it would write into the status is written by the test.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl import Kubectl

from components.trainjob.run import TRAIN_JOB, TrainJobFailed, train_on_nodes
from components.trainjob.settings import NodesPlan
from components.trainjob.spec import MANAGER, train_job
from pipelines.cluster.placement import nodes_plan
from pipelines.cluster_settings import ClusterConfig
from recommender.files import write_json
from serving.kubernetes.api import Cluster, connect

CLUSTER = ClusterConfig.model_validate(
    {
        "image": "registry.test/kuberec/pipeline@sha256:" + "a" * 64,
        "image_pull_secrets": ["registry"],
        "steps": {
            "train": {
                "cpu": "4",
                "memory": "16Gi",
                "gpu": {"count": 2},
                "shared_memory": "2Gi",
                "timeout_s": 7200,
                "node_selector": {"pool": "gpu"},
                "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
                "env": {"NCCL_DEBUG": "WARN"},
            }
        },
        "training": {"nodes": 3, "start_timeout_s": 1},
    }
)


@pytest.fixture
def namespace(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"test-train-{uuid.uuid4().hex[:6]}"
    kubectl.run("create", "namespace", name)
    monkeypatch.setenv("KFP_NAMESPACE", name)
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


@pytest.fixture
def cluster(kubectl: Kubectl) -> Cluster:
    return connect()


@pytest.fixture
def plan() -> NodesPlan:
    return nodes_plan(CLUSTER)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    folders = {}
    for name in ("windows", "vectors"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / "file").write_text(name)
    return folders


def told(*_: object) -> None:
    pass


def end(cluster: Cluster, kubectl: Kubectl, namespace: str, kind: str, message: str) -> None:
    """Write into the status of the namespace's job what the controller would."""
    deadline = time.monotonic() + 30
    while not (found := cluster.find_all(TRAIN_JOB, namespace)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    condition = {
        "type": kind,
        "status": "True",
        "reason": "JobsFailed" if kind == "Failed" else "JobsCompleted",
        "message": message,
        "lastTransitionTime": "2026-11-24T00:00:00Z",
    }
    patch = json.dumps({"status": {"conditions": [condition]}})
    name = found[-1]["metadata"]["name"]
    kubectl.run(
        *("patch", "trainjob", name, "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", patch),
    )


def test_what_is_sent_is_what_is_kept(cluster, namespace, plan, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "step")
    monkeypatch.setenv("KFP_POD_UID", str(uuid.uuid4()))
    sent = train_job("job-1", namespace, "key", "/kuberec/home/training/key", plan)
    kept = cluster.apply(TRAIN_JOB, sent, MANAGER)  # strict: an unknown field is refused
    assert _within(sent["spec"], kept["spec"])
    assert kept["metadata"]["ownerReferences"] == sent["metadata"]["ownerReferences"]
    trainer = kept["spec"]["trainer"]
    assert trainer["numNodes"] == 3
    assert trainer["numProcPerNode"] == 2  # one for each GPU
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"


def test_what_is_sent_again_changes_nothing(cluster, namespace, plan, monkeypatch):
    # Without an owner: one that is not there has the job collected.
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    sent = train_job("job-1", namespace, "key", "/kuberec/home/training/key", plan)
    kept = cluster.apply(TRAIN_JOB, sent, MANAGER)
    again = cluster.apply(TRAIN_JOB, sent, MANAGER)
    assert again["metadata"]["resourceVersion"] == kept["metadata"]["resourceVersion"]


def _within(sent: object, kept: object) -> bool:
    """Whether all of `sent` is in `kept`, which may have defaults besides."""
    if isinstance(sent, dict):
        return isinstance(kept, dict) and all(_within(v, kept.get(k)) for k, v in sent.items())
    if isinstance(sent, list):
        return isinstance(kept, list) and all(map(_within, sent, kept)) and len(sent) == len(kept)
    return sent == kept


def test_a_completed_job_gives_its_model(cluster, kubectl, namespace, plan, inputs, tmp_path):
    workspace, out = tmp_path / "home", tmp_path / "model"

    def nodes() -> None:
        folder = workspace / "training" / "0123456789abcdef"
        while not (folder / "job.json").is_file():
            time.sleep(0.1)
        assert (folder / "windows" / "file").read_text() == "windows"
        write_json(folder / "model" / "training.json", {"curves": []})
        end(cluster, kubectl, namespace, "Complete", "")

    played = threading.Thread(target=nodes)
    played.start()
    settings = {"model": {}, "training": {}}
    plan = plan.model_copy(update={"start_timeout_s": 60})
    train_on_nodes(cluster, plan, "0123456789abcdef0", inputs, settings, out, workspace, told)
    played.join()
    assert (out / "training.json").is_file()
    assert not (workspace / "training" / "0123456789abcdef").exists()
    assert cluster.find_all(TRAIN_JOB, namespace)  # the job itself is left to be looked at


def test_a_failed_job_is_explained_and_the_next_attempt_is_another(
    cluster, kubectl, namespace, plan, inputs, tmp_path
):
    plan = plan.model_copy(update={"start_timeout_s": 60})
    for attempt in (1, 2):
        played = threading.Thread(
            target=_end_number, args=(cluster, kubectl, namespace, attempt, "node 1 went away")
        )
        played.start()
        with pytest.raises(TrainJobFailed) as failure:
            train_on_nodes(
                cluster, plan, "feed" * 4, inputs, {}, tmp_path / "m", tmp_path / "h", told
            )
        played.join()
        message = str(failure.value)
        assert f"TrainJob 'kuberec-train-feedfeed-{attempt}'" in message
        assert "node 1 went away" in message
        assert "kubectl describe trainjob" in message
    assert len(cluster.find_all(TRAIN_JOB, namespace)) == 2


def _end_number(
    cluster: Cluster, kubectl: Kubectl, namespace: str, number: int, message: str
) -> None:
    while len(cluster.find_all(TRAIN_JOB, namespace)) < number:
        time.sleep(0.2)
    end(cluster, kubectl, namespace, "Failed", message)


def test_nodes_that_do_not_come_are_not_waited_for_without_end(
    cluster, namespace, plan, inputs, tmp_path
):
    with pytest.raises(TrainJobFailed) as failure:
        train_on_nodes(cluster, plan, "beef" * 4, inputs, {}, tmp_path / "m", tmp_path / "h", told)
    message = str(failure.value)
    assert "0 of 3 nodes run" in message
    assert "ClusterTrainingRuntime 'torch-distributed'" in message
