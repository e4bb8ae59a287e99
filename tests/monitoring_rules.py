"""The rules of manifests/monitoring and the dashboard's queries, as tests read them."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "manifests" / "monitoring"
ALARM_TESTS = ROOT / "tests" / "alarms"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def rule_files() -> dict[str, dict[str, Any]]:
    """The PrometheusRules by file, as Prometheus wants them: their spec."""
    return {
        path.name: document["spec"]
        for path in sorted(MONITORING.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document.get("kind") == "PrometheusRule"
    }


RULES = [
    rule for spec in rule_files().values() for group in spec["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]


def queries() -> list[tuple[str, str]]:
    """(where, PromQL) of every rule and every target of the dashboard."""
    found = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in RULES]
    found += [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
    return [*found, *((note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"])]
