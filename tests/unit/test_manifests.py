"""What must agree among the manifests, and between them and the rest; no cluster is needed."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.trainjob.spec import KEY_LABEL, train_job
from pipelines.cluster.placement import nodes_plan
from pipelines.cluster_settings import ClusterConfig
from serving.settings import KubernetesConfig, TransformerConfig

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"


def _load(path: str) -> Any:
    return yaml.safe_load((MANIFESTS / path).read_text())


def test_features_are_written_where_they_are_read_as_the_repository_says() -> None:
    """Pods have the registry in a file; a trial's pipeline too, on the volume of the state home."""
    shipped = yaml.safe_load((ROOT / "feature_repo/feature_store_redis.yaml").read_text())
    by_file = {"path": "${KUBEREC_FEATURE_REGISTRY}"}
    sentinels = {"redis_type": "redis_sentinel", "sentinel_master": "kuberec"}
    online = {"base": {}, "overlays/production": sentinels}
    registries = {"base": by_file, "overlays/production": shipped["registry"]}
    for kind, added in online.items():
        expected = shipped | {"online_store": shipped["online_store"] | added}
        pipeline = _load(f"{kind}/pipeline/feature_store.yaml")
        assert pipeline == expected | {"registry": registries[kind]}
        assert _load(f"{kind}/endpoint/feature_store.yaml") == expected | {"registry": by_file}


def test_slots_scale_alike() -> None:
    blue, green = (
        (MANIFESTS / f"base/endpoint/autoscaling-{slot}.yaml").read_text()
        for slot in ("blue", "green")
    )

    assert blue.replace("blue", "green") == green


def test_kedas_admission_is_not_shown_slots_that_may_be_empty() -> None:
    """It refuses a trigger for CPU without the Deployment, and an empty slot has none."""
    (webhook,) = _load("platform/30-keda/admission.yaml")["webhooks"]
    (left_out,) = webhook["objectSelector"]["matchExpressions"]
    assert webhook["name"] == "vscaledobject.kb.io"
    assert left_out["operator"] == "DoesNotExist"

    for path in MANIFESTS.glob("base/endpoint/autoscaling-*.yaml"):
        scaled = yaml.safe_load(path.read_text())
        by_cpu = any(trigger["type"] == "cpu" for trigger in scaled["spec"]["triggers"])
        assert by_cpu == (left_out["key"] in scaled["metadata"].get("labels", {})), path.name


def test_nodes_of_a_training_reach_each_other() -> None:
    """Though nothing may call a step: their pods have the label of one."""
    plan = nodes_plan(ClusterConfig.model_validate({"training": {"nodes": 2}}))
    (patch,) = train_job("name", "kubeflow", "key", "/folder", plan)["spec"]["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    labels = job["template"]["spec"]["template"]["metadata"]["labels"]
    policies = yaml.safe_load_all((MANIFESTS / "base/pipeline/network.yaml").read_text())
    of_pod = [
        policy["spec"]
        for policy in policies
        if all(each["key"] in labels for each in policy["spec"]["podSelector"]["matchExpressions"])
    ]

    allowed = [
        source for spec in of_pod for rule in spec.get("ingress", []) for source in rule["from"]
    ]
    assert any("Ingress" in spec["policyTypes"] and not spec.get("ingress") for spec in of_pod)
    assert allowed == [
        {"podSelector": {"matchExpressions": [{"key": KEY_LABEL, "operator": "Exists"}]}}
    ]


def test_slots_have_the_same_budget() -> None:
    budgets = list(yaml.safe_load_all((MANIFESTS / "base/endpoint/disruption.yaml").read_text()))

    blue, green = (yaml.safe_dump(each) for each in budgets)
    assert blue.replace("blue", "green") == green


@pytest.mark.parametrize("path", sorted(MANIFESTS.rglob("transformer.yaml")), ids=str)
def test_transformer_settings_are_settings(path: Path) -> None:
    TransformerConfig.model_validate(yaml.safe_load(path.read_text()))


def test_every_alarm_has_its_row_in_the_guide() -> None:
    rules = "".join(path.read_text() for path in MANIFESTS.glob("monitoring/*.yaml"))
    guide = (ROOT / "docs/guides/operators.md").read_text()

    named = set(re.findall(r"operators\.md#([\w-]+)", rules))
    assert named <= set(re.findall(r'<a id="([\w-]+)">', guide))


def test_the_readmes_run_on_s3_is_a_config_and_names_what_its_commands_make() -> None:
    readme = (MANIFESTS / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    run = yaml.safe_load(text)

    KubernetesConfig.model_validate(run["serving"]["kubernetes"])
    cluster = ClusterConfig.model_validate(run["cluster"])
    commands = readme + (MANIFESTS / "platform/README.md").read_text()
    for secret in cluster.secrets:
        made = re.findall(
            rf"create secret generic {secret.name} (.*?)(?:\n\w|\n```)", commands, re.S
        )
        assert any(all(f"literal={key}=" in one for key in secret.keys) for one in made), secret


def test_no_secret_is_committed() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "manifests"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert not [path for path in tracked if path.endswith(".env")]
    for path in tracked:
        if path.startswith(("manifests/base", "manifests/overlays")) and path.endswith(".yaml"):
            documents = yaml.safe_load_all((ROOT / path).read_text())
            kinds = [each.get("kind") for each in documents if isinstance(each, dict)]
            assert "Secret" not in kinds, path


def test_the_side_door_is_open_to_the_api_server_alone() -> None:
    """KServe gives the Service every declared port, and policies let in what they name."""
    service = _load("base/endpoint/inference-service.yaml")
    (transformer,) = service["spec"]["predictor"]["containers"]
    (argument,) = [each for each in transformer["args"] if each.startswith("--side_port=")]
    side_port = int(argument.partition("=")[2])
    declared = [port["containerPort"] for port in transformer["ports"]]
    assert declared == [8080, 9000]
    opened = {
        port["port"]
        for path in MANIFESTS.glob("*/endpoint/network-*.yaml")
        for policy in yaml.safe_load_all(path.read_text())
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]  # a rule without any would open all
    }
    assert {8080, 9000} <= opened
    assert side_port not in opened
