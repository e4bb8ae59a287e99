"""The consumer of live events on a cluster: what its manifest says agrees with the others."""

from pathlib import Path
from typing import Any

import typer
import yaml
from typer.testing import CliRunner

from pipelines.cluster.placement import FEAST_VARIABLE, FEATURE_STORE_FILE, REGISTRY_VARIABLE
from pipelines.cluster_settings import HOME_PATH
from pipelines.events import command

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"


def _load(path: str) -> Any:
    return yaml.safe_load((MANIFESTS / path).read_text())


def _pod() -> tuple[dict[str, str], dict[str, Any]]:
    template = _load("live-events/deployment.yaml")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return template["metadata"]["labels"], container


def test_it_finds_the_feature_store_where_the_pipeline_puts_it() -> None:
    _, container = _pod()
    env = {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts["home"] == env["KUBEREC_HOME"] == HOME_PATH
    assert env[REGISTRY_VARIABLE] == f"{HOME_PATH}/feature_store/registry.db"
    assert env[FEAST_VARIABLE] == f"{mounts['feature-store']}/{FEATURE_STORE_FILE}"
    assert env["KUBEREC_REDIS"] == {"secretKeyRef": {"name": "redis", "key": "connection_string"}}
    claim = _load("base/pipeline/volumes.yaml")["metadata"]["name"]
    volumes = _load("live-events/deployment.yaml")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "home", "persistentVolumeClaim": {"claimName": claim}} in volumes


def test_the_command_takes_its_arguments() -> None:
    _, container = _pod()
    kustomization = _load("live-events/kustomization.yaml")
    values = dict(each.split("=") for each in kustomization["configMapGenerator"][0]["literals"])
    arguments = [each.replace("$(TOPIC)", values["TOPIC"]) for each in container["args"]]
    assert container["command"] == ["kuberec", "events", "follow"]
    command_line = typer.main.get_command(command.app).commands["follow"]  # type: ignore[attr-defined]
    parsed = command_line.make_context("follow", arguments).params
    assert (parsed["topic"], parsed["metrics_port"]) == ("events", 9109)
    (port,) = [each["containerPort"] for each in container["ports"]]
    assert port == parsed["metrics_port"]
    option = next(each for each in command_line.params if each.name == "brokers")
    assert option.envvar in values


def test_redis_lets_it_in_and_prometheus_reads_it() -> None:
    labels, container = _pod()
    for path in ("base/redis/network.yaml", "overlays/production/redis/network.yaml"):
        (rule,) = _load(path)["spec"]["ingress"]
        kubeflow = {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}
        asked = {"namespaceSelector": kubeflow, "podSelector": {"matchLabels": labels}}
        assert asked in rule["from"], path
    (monitor,) = yaml.safe_load_all((MANIFESTS / "monitoring/scrape-live-events.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"] == labels
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [each["name"] for each in container["ports"]]
    (rule,) = _load("live-events/network.yaml")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [9109]


def test_help_teaches_the_two_ways_in() -> None:
    shown = CliRunner().invoke(command.app, ["push", "--help"]).stdout
    assert "kuberec events push events.jsonl" in shown
    assert "kuberec events push --user u1 --item i9" in shown
