"""manifests/monitoring: every metric named is exposed by something, alarms do what they say."""

import re

import pytest
import yaml
from monitoring_rules import (
    ALARM_TESTS,
    ALERTS,
    DASHBOARD,
    MONITORING,
    PANELS,
    ROOT,
    RULES,
    queries,
)
from prometheus_client import REGISTRY

import serving.transformer.metrics  # noqa: F401  (registers what the transformer exposes)
from serving.transformer.errors import SERVICE_FAULTS

# What others expose, each read from the running program but where another source is named.
OTHERS = {
    # Triton 2.51, /metrics
    "nv_inference_request_success",
    "nv_inference_queue_duration_us",
    "nv_inference_count",
    "nv_inference_exec_count",
    # Triton with a GPU: its user guide, metrics.md
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
    # Envoy 1.40 with traffic, /stats/prometheus
    "envoy_cluster_upstream_rq_xx",
    "envoy_cluster_upstream_rq_time_bucket",
    "envoy_cluster_upstream_rq_time_count",
    # kube-state-metrics 2.20.0
    "kube_deployment_status_replicas_available",
    "kube_horizontalpodautoscaler_status_current_replicas",
    "kube_horizontalpodautoscaler_spec_max_replicas",
    "kube_pod_status_phase",
    "kube_pod_labels",
    # Kubeflow Pipelines 2.17.0: backend/src/apiserver/resource/resource_manager.go
    "resource_manager_workflow_runs_failed",
    "resource_manager_workflow_runs_success",
    # Prometheus itself
    "ALERTS",
}
KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS |= {"offset", "bool", "inf", "nan"}


def metrics_of(query: str) -> set[str]:
    """The metric names in PromQL: identifiers that are no function, label or keyword."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    names = re.findall(r"(?<![\w.:])([a-zA-Z_][\w:]*)(?!\s*\()\b(?!\s*\()", bare)
    return {name for name in names if name not in KEYWORDS}


def exposed() -> set[str]:
    """Every metric: the transformer's, others', of custom resources, and recorded ones."""
    own = set()
    for family in REGISTRY.collect():
        if family.name.startswith("kuberec_"):
            suffixes = {
                "counter": ["_total"],
                "histogram": ["_bucket", "_sum", "_count"],
                "info": ["_info"],
            }.get(family.type, [""])
            own |= {family.name + suffix for suffix in suffixes}
    path = ROOT / "manifests" / "platform" / "41-prometheus" / "kube-state-metrics-resources.yaml"
    resources = yaml.safe_load(path.read_text())["spec"]["resources"]
    state = {
        f"{resource['metricNamePrefix']}_{metric['name']}"
        for resource in resources
        for metric in resource["metrics"]
    }
    return own | state | OTHERS | {rule["record"] for rule in RULES if "record" in rule}


def test_reading_names_from_queries() -> None:
    assert metrics_of(
        'sum by (a, b) (rate(x_total{c="d_e"}[5m])) / on (f) group_left (g) y:z > 0'
    ) == {
        "x_total",
        "y:z",
    }
    assert metrics_of(
        "histogram_quantile(0.5, sum(rate(h_bucket[1m])) by (le)) offset 1h or v"
    ) == {
        "h_bucket",
        "v",
    }


@pytest.mark.parametrize(("where", "query"), queries())
def test_every_metric_is_exposed(where: str, query: str) -> None:
    assert metrics_of(query) - exposed() == set(), where
    assert metrics_of(query)


def test_errors_are_the_services_own_faults() -> None:
    """Rules, dashboard and rollout agree on which codes count against a version."""
    chosen = [codes for _, query in queries() for codes in re.findall(r'code=~"([^"]+)"', query)]
    assert chosen
    assert {frozenset(codes.split("|")) for codes in chosen} == {frozenset(SERVICE_FAULTS)}


def test_the_gateway_keeps_what_is_read() -> None:
    """Envoy's metrics are thrown away at the scrape but for some: no rule may name another."""
    monitor = yaml.safe_load((MONITORING / "scrape-gateway.yaml").read_text())
    (kept,) = [
        relabeling["regex"]
        for relabeling in monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
        if relabeling.get("action") == "keep"
    ]
    read = {
        name for _, query in queries() for name in metrics_of(query) if name.startswith("envoy_")
    }
    assert read
    assert all(re.fullmatch(kept, name) for name in read)


def test_route_names_come_from_envoy_gateways_clusters() -> None:
    monitor = yaml.safe_load((MONITORING / "scrape-gateway.yaml").read_text())
    relabelings = monitor["spec"]["podMetricsEndpoints"][0]["metricRelabelings"]
    targets = {r["targetLabel"]: r for r in relabelings if "targetLabel" in r}
    for label, value in {"namespace": "kuberec", "route": "recommend-predictor"}.items():
        match = re.fullmatch(
            targets[label]["regex"], "httproute/kuberec/recommend-predictor/rule/1"
        )
        assert match is not None
        assert match.expand(targets[label]["replacement"].replace("$", "\\")) == value


def test_pods_are_told_apart_by_slot() -> None:
    monitors = list(yaml.safe_load_all((MONITORING / "scrape-endpoint.yaml").read_text()))
    for monitor in monitors:
        assert monitor["spec"]["podTargetLabels"] == ["app"]
        slot = monitor["spec"]["podMetricsEndpoints"][0]["relabelings"][0]
        match = re.fullmatch(slot["regex"], "isvc.recommend-green-predictor")
        assert match is not None
        assert (match[1], slot["targetLabel"]) == ("green", "slot")
    address = monitors[1]["spec"]["podMetricsEndpoints"][0]["relabelings"][1]
    triton = re.sub(address["regex"], address["replacement"].replace("$", "\\"), "10.1.2.3:8080")
    assert triton == "10.1.2.3:8002"


def test_alarms_say_what_to_do() -> None:
    for rule in ALERTS:
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url"}
        anchor = f"docs/guides/operators.md#alarm-{rule['alert'].lower()}"
        assert notes["runbook_url"] == anchor
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert "for" in rule


def test_every_alarm_is_tested() -> None:
    texts = "".join(path.read_text() for path in ALARM_TESTS.glob("*.yaml"))
    assert {rule["alert"] for rule in ALERTS if rule["alert"] not in texts} == set()


def test_dashboard_is_one_that_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    source = {"type": "prometheus", "uid": "${datasource}"}
    kinds = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "namespace": "query"}
    places = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not places & cells, f"{panel['title']} lies on another panel"
        places |= cells
    for panel in PANELS:
        assert panel["datasource"] == source
        assert panel["description"]
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == source for target in panel["targets"])


def test_dashboard_shows_what_was_asked_for() -> None:
    shown = {name for _, query in queries()[len(RULES) :] for name in metrics_of(query)}
    for needed in (
        "kuberec:version_requests:rate5m",
        "envoy_cluster_upstream_rq_time_bucket",
        "kuberec:queue_seconds:mean1m",
        "kuberec_predictor_rows_sum",
        "kuberec:latency_seconds:p99_5m",
        "kuberec:short_answer_ratio:rate5m",
        "kuberec_feature_age_seconds_bucket",
        "kuberec:feature_fallback_ratio:rate5m",
        "kuberec_route_weight",
        "kube_deployment_status_replicas_available",
        "kuberec:error_ratio:rate5m",
        "nv_gpu_utilization",
    ):
        assert needed in shown
