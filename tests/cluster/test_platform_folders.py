"""The folders of manifests/platform whose sources are all here: they render, and run confined."""

from pathlib import Path

import pytest
import yaml
from kubectl import Kubectl
from overlays import MANIFESTS, render


def _offline() -> list[str]:
    """Those that fetch nothing: the others' sources are on the network."""
    files = sorted(MANIFESTS.glob("platform/*/kustomization.yaml"))
    return [
        file.parent.name
        for file in files
        if not any("://" in each for each in yaml.safe_load(file.read_text())["resources"])
    ]


def test_some_are_looked_at() -> None:
    assert {"21-gateway", "41-prometheus", "60-object-store", "80-mlflow"} <= set(_offline())


@pytest.mark.parametrize("folder", _offline())
def test_what_is_ours_renders_and_runs_confined(
    folder: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    for found in render(kubectl, f"platform/{folder}", tmp_path):
        assert found["kind"] != "Secret", "passwords are made on the cluster"
        if found["kind"] not in ("Deployment", "StatefulSet", "Job"):
            continue
        pod = found["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True
            assert confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
