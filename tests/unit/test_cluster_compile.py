"""The compiled pipeline: each step has what the config says, in both documents of the YAML."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from compiling import compile_pipeline

from components.trainjob.settings import NODES_VARIABLE, NodesPlan
from pipelines.cluster.compile import load_for_cluster
from pipelines.cluster_settings import GATED, STEPS, TASKS
from pipelines.config import ConfigError, RunConfig, load_config

CONFIGS = Path(__file__).resolve().parents[2] / "pipelines" / "configs"
CONFIG = CONFIGS / "movielens-100k.yaml"
DIGEST = "sha256:" + "a" * 64


class Compiled:
    """The two documents, by step."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        target = folder / "pipeline.yaml"
        compile_pipeline(config, target)
        self.text = target.read_text()
        self.spec, self.platform = yaml.safe_load_all(self.text)

    def container(self, step: str) -> dict[str, Any]:
        return self.spec["deploymentSpec"]["executors"][f"exec-{step}"]["container"]

    def pod(self, step: str) -> dict[str, Any]:
        executors = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        return executors[f"exec-{step}"]

    def variables(self, step: str) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.container(step).get("env", [])}

    @property
    def tasks(self) -> dict[str, Any]:
        return self.spec["root"]["dag"]["tasks"]


def compiled(tmp_path: Path, *overrides: str) -> Compiled:
    return Compiled(load_config(CONFIG, overrides), tmp_path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_compiles_to_the_same_bytes_each_time(path, tmp_path):
    first = Compiled(load_config(path), tmp_path)
    assert first.text == Compiled(load_config(path), tmp_path).text
    assert first.spec["pipelineInfo"]["name"] == path.stem
    assert set(first.tasks) == set(TASKS)


def test_every_step_has_image_workspace_user_label_and_writable_tmp(tmp_path):
    found = compiled(tmp_path, f"cluster.image=registry.test/p@{DIGEST}")
    for step in STEPS:
        assert found.container(step)["image"] == f"registry.test/p@{DIGEST}"
        assert found.variables(step)["KUBEREC_HOME"] == "/kuberec/home"
        pod = found.pod(step)
        mounts = {each["mountPath"]: each["constant"] for each in pod["pvcMount"]}
        assert mounts["/kuberec/home"] == "kuberec-home"
        assert ("/kuberec/models" in mounts) == (step == "rollout")
        assert pod["podMetadata"]["labels"]["kuberec.io/step"] == step
        assert pod["securityContext"] == {
            "runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True
        }  # fmt: skip
        assert {each["mountPath"] for each in pod["emptyDirMounts"]} == {"/tmp"}


def test_a_steps_own_settings_win_over_the_defaults(tmp_path):
    found = compiled(
        tmp_path,
        "cluster.defaults={cpu: '1', memory: 3Gi, timeout_s: 600}",
        "cluster.steps={train: {memory: 9Gi, cpu_limit: '4', gpu: {count: 2}, "
        "shared_memory: 1Gi, scratch: 5Gi, node_selector: {pool: gpu}, env: {A: b}, "
        "tolerations: [{key: gpu, operator: Equal, value: 'yes', effect: NoSchedule}], "
        "retries: {count: 3, backoff_s: 10, factor: 1.5, max_s: 60}}}",
    )
    train, ingest = found.container("train"), found.container("ingest")
    assert train["resources"]["resourceMemoryLimit"] == "9Gi"
    assert train["resources"]["resourceCpuRequest"] == "1"
    assert train["resources"]["resourceCpuLimit"] == "4"
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert train["resources"]["accelerator"]["resourceCount"] == "2"
    assert ingest["resources"]["resourceMemoryRequest"] == "3Gi"
    assert "accelerator" not in ingest["resources"]
    assert found.variables("train")["A"] == "b"
    pod = found.pod("train")
    assert pod["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
    ]
    assert pod["activeDeadlineSeconds"] == found.pod("ingest")["activeDeadlineSeconds"] == "600"
    folders = {each["mountPath"]: each for each in pod["emptyDirMounts"]}
    assert folders["/tmp"]["sizeLimit"] == "5Gi"
    assert folders["/dev/shm"] == {
        "volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "1Gi"
    }  # fmt: skip
    policy = found.tasks["train"]["retryPolicy"]
    assert policy["maxRetryCount"] == 3
    assert policy["backoffDuration"] == "10s"
    assert "retryPolicy" not in found.tasks["validate"]


@pytest.mark.parametrize("step", GATED)
def test_a_gate_is_small_and_asked_once_whatever_the_steps_get(tmp_path, step):
    found = compiled(
        tmp_path,
        "cluster.defaults={cpu: '2', memory: 8Gi, gpu: {count: 1}, retries: {count: 3}, "
        "node_selector: {pool: ours}}",
    )
    gate, measured = f"{step}-gate", found.tasks[step]
    asked = found.container(gate)["resources"]
    assert (asked["resourceCpuRequest"], asked["resourceMemoryLimit"]) == ("10m", "512Mi")
    assert "accelerator" not in asked
    assert "retryPolicy" in measured
    assert "retryPolicy" not in found.tasks[gate]
    assert not found.tasks[gate].get("cachingOptions")
    pod = found.pod(gate)
    assert "pvcMount" not in pod
    assert "secretAsEnv" not in pod
    assert pod["nodeSelector"]["labels"] == {"pool": "ours"}
    assert pod["podMetadata"]["labels"]["kuberec.io/step"] == gate
    assert found.container(gate)["image"] == found.container(step)["image"]
    (report,) = found.tasks[gate]["inputs"]["artifacts"].values()
    assert report["taskOutputArtifact"]["producerTask"] == step


def test_secrets_are_named_and_never_written(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBEREC_REDIS", "redis:6379,password=hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("KFP_TOKEN", "hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    found = compiled(
        tmp_path,
        "cluster.image_pull_secrets=[registry]",
        "cluster.config_maps=[{name: mine, keys: {level: LEVEL}, steps: [ingest]}]",
    )
    assert "hunter2" not in found.text
    secrets = {each["secretName"]: each for each in found.pod("rollout")["secretAsEnv"]}
    assert secrets["redis"]["keyToEnv"] == [
        {"secretKey": "connection_string", "envVar": "KUBEREC_REDIS"}
    ]
    assert secrets["model-store"]["optional"] is True
    (mlflow,) = found.pod("train")["secretAsEnv"]
    assert mlflow["secretName"] == "mlflow"
    assert mlflow["optional"] is True
    assert {each["envVar"] for each in mlflow["keyToEnv"]} == {
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    }
    assert "secretAsEnv" not in found.pod("ingest")
    assert found.pod("train")["imagePullSecret"][0]["secretName"] == "registry"
    assert found.pod("ingest")["configMapAsEnv"][0]["keyToEnv"] == [
        {"configMapKey": "level", "envVar": "LEVEL"}
    ]


def test_steps_that_touch_the_online_store_find_its_settings(tmp_path):
    found = compiled(tmp_path)
    for step in STEPS:
        online = step in ("materialize", "rollout", "report")
        file = found.variables(step).get("FEAST_FS_YAML_FILE_PATH")
        assert file == ("/etc/kuberec/feature_store.yaml" if online else None)
        assert ("configMapAsVolume" in found.pod(step)) == online


def test_more_nodes_move_what_training_needs_to_them(tmp_path):
    found = compiled(
        tmp_path,
        "cluster.training.nodes=3",
        "cluster.steps={train: {cpu: '4', memory: 16Gi, gpu: {count: 2}}}",
    )
    plan = NodesPlan.model_validate_json(found.variables("train")[NODES_VARIABLE])
    assert (plan.nodes, plan.processes) == (3, 2)
    assert plan.limits == {"memory": "16Gi", "nvidia.com/gpu": "2"}
    assert plan.claim == "kuberec-home"
    assert "accelerator" not in found.container("train")["resources"]
    assert NODES_VARIABLE not in compiled(tmp_path).variables("train")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cluster.steps={build_features: {cpu: '1'}}", "did you mean 'build-features'"),
        ("cluster.secrets=[{name: a, keys: {b: C}, steps: [trian]}]", "did you mean 'train'"),
        ("cluster.defaults.memori=1Gi", r"unknown key 'cluster\.defaults\.memori'.*'memory'"),
        ("cluster.steps={train: {gpu: {cuont: 1}}}", "did you mean 'count'"),
        ("cluster.defaults.memory=lots", r"cluster\.defaults\.memory = 'lots'"),
        ("cluster.image=two words", r"cluster\.image = 'two words'"),
        ("cluster.config_maps=[{name: a}]", "ConfigMap 'a': give either path or keys"),
        ("cluster.schedule={cron: '0 3 * * *'}", "six fields, seconds first"),
        ("cluster.schedule={}", "either cron or interval_s"),
        ("cluster.volumes=[{claim: a, path: /kuberec/home}]", "two volumes are mounted at"),
        ("cluster.workspace={claim: a, path: /x, steps: [train]}", "every step needs it"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(override, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(CONFIG, [override])
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cluster.models=null", r"'rollout' has no such volume; say cluster\.models"),
        ("serving.kubernetes.model_store=pvc://mine/v", "claim: mine, path: /kuberec/models"),
    ],
)
def test_a_model_store_that_rollout_could_not_reach_is_told(override, message):
    with pytest.raises(ConfigError, match=message):
        load_for_cluster(CONFIG, [override], None)
    load_config(CONFIG, [override])  # of no matter on one machine


def test_a_model_store_on_s3_needs_no_volume(tmp_path):
    found = compiled(tmp_path, "cluster.models=null", "serving.kubernetes.model_store=s3://b/v")
    assert len(found.pod("rollout")["pvcMount"]) == 1
