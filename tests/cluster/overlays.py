"""What `kubectl kustomize` makes of the manifests, moved to namespaces of a test's own."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from kubectl import Kubectl, Object

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
# Where the manifests put things, and whom their policies name.
NAMESPACES = ("kuberec", "kuberec-gateway", "kubeflow", "monitoring")
# Of no namespace: the tests' get names of their own.
_CLUSTER_SCOPED = (
    *("PersistentVolume", "ClusterStorageContainer", "GatewayClass"),
    *("ClusterRole", "ClusterRoleBinding"),
)
_REFERENCES = ("volumeName", "storageContainerName", "gatewayClassName")


def find_overlays() -> list[str]:
    """Folders below manifests/ that are applied as they are, whoever adds them."""
    folders = [*MANIFESTS.glob("overlays/*"), MANIFESTS / "monitoring", MANIFESTS / "live-events"]
    return sorted(
        str(folder.relative_to(MANIFESTS))
        for folder in folders
        if (folder / "kustomization.yaml").is_file()
    )


def render(kubectl: Kubectl, overlay: str, workdir: Path) -> list[Object]:
    """The overlay's objects, its secrets made of the examples."""
    copy = workdir / "manifests"
    if not copy.exists():
        shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("secrets.env"))
        for example in copy.rglob("secrets.env.example"):
            shutil.copyfile(example, example.with_suffix(""))
    text = kubectl.run("kustomize", str(copy / overlay))
    return [document for document in yaml.safe_load_all(text) if document]


def move(objects: Iterable[Object], prefix: str) -> list[Object]:
    """The same objects in the namespaces `prefix-NAME`; cluster-wide ones are renamed so too."""
    objects = list(objects)
    wide = {one["metadata"]["name"] for one in objects if one["kind"] in _CLUSTER_SCOPED}

    def moved(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: moved(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [moved(item, key) for item in value]
        is_namespace = key in ("namespace", "kubernetes.io/metadata.name", "matchNames")
        if (is_namespace and value in NAMESPACES) or (key in _REFERENCES and value in wide):
            return f"{prefix}-{value}"
        return value

    result = []
    for one in objects:
        copy = moved(one)
        if one["kind"] == "Namespace" or one["kind"] in _CLUSTER_SCOPED:
            copy["metadata"]["name"] = f"{prefix}-{one['metadata']['name']}"
        result.append(copy)
    return result


def find(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """The one object of a kind, or of a kind and name."""
    found = [
        one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
    return found[0]
