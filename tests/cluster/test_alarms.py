"""The rules of manifests/monitoring, run by Prometheus's own tool on made-up series."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from monitoring_rules import ALARM_TESTS, queries, rule_files


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder with the rules as files of Prometheus's own kind, and the tests of the alarms."""
    for name, spec in rule_files().items():
        (tmp_path / name).write_text(yaml.safe_dump(spec, sort_keys=False, width=10_000))
    for path in ALARM_TESTS.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    return tmp_path


def promtool(*arguments: str | Path, folder: Path) -> None:
    """Run promtool, which comes with Prometheus."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules_and_the_dashboards_queries(rules: Path) -> None:
    shown = [
        {"record": f"dashboard:{number}", "expr": query.replace("$namespace", "kuberec")}
        for number, (_, query) in enumerate(queries())
    ]
    groups = {"groups": [{"name": "dashboard", "rules": shown}]}
    (rules / "dashboard.yaml").write_text(yaml.safe_dump(groups, width=10_000))
    promtool("check", "rules", *rule_files(), "dashboard.yaml", folder=rules)


@pytest.mark.parametrize("name", sorted(path.name for path in ALARM_TESTS.glob("*.yaml")))
def test_alarms_on_made_up_series(rules: Path, name: str) -> None:
    promtool("test", "rules", name, folder=rules)
