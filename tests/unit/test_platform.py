"""manifests/platform: every version is that of versions.yaml, none floats, one documented order."""

import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLATFORM = ROOT / "manifests" / "platform"
VERSIONS = yaml.safe_load((PLATFORM / "versions.yaml").read_text())
COMPONENTS = VERSIONS["components"]
FOLDERS = sorted(path.name for path in PLATFORM.iterdir() if path.is_dir())
FILES = sorted(path for path in PLATFORM.rglob("*") if path.is_file() and path.parent != PLATFORM)
IMAGE = re.compile(r"\b(?:[a-z0-9-]+\.)+(?:io|com)/[a-z0-9._/-]+(?::[A-Za-z0-9._-]+)?")


def addresses() -> list[tuple[str, str]]:
    """(folder, address) of everything that kustomize fetches."""
    return [
        (folder, resource)
        for folder in FOLDERS
        for resource in yaml.safe_load((PLATFORM / folder / "kustomization.yaml").read_text())[
            "resources"
        ]
        if "://" in resource
    ]


def images() -> list[tuple[str, str, str]]:
    """(folder, name, tag) of every image, those inside KServe's JSON settings included."""
    found = []
    for path in FILES:
        folder = path.relative_to(PLATFORM).parts[0]
        text = path.read_text()
        if path.name == "kustomization.yaml":
            for image in yaml.safe_load(text).get("images", []):
                found.append((folder, image["newName"], image["newTag"]))
            continue
        found += [
            (folder, *match.rpartition(":")[::2])
            for match in re.findall(r'image"?: "?([^\s",]+)', text)
            if ":" in match
        ]
    explainer = settings()["explainers"]["art"]
    return [*found, ("51-kserve", explainer["image"], explainer["defaultImageVersion"])]


def settings() -> dict:
    """KServe's settings that we set, parsed."""
    data = yaml.safe_load((PLATFORM / "51-kserve" / "settings.yaml").read_text())["data"]
    return {key: json.loads(value) for key, value in data.items()}


def owner(key: str, name: str) -> dict:
    """The one component that an address or image belongs to."""
    match = [
        component
        for component in COMPONENTS
        for start in component.get(key, [])
        if (name.startswith(start) if key == "urls" else name == start)
    ]
    assert len(match) == 1, f"{name} belongs to {[c['name'] for c in match]} of versions.yaml"
    return match[0]


@pytest.mark.parametrize(("folder", "address"), addresses())
def test_address_has_the_listed_version(folder: str, address: str) -> None:
    component = owner("urls", address)
    assert folder in component["folders"]
    version = re.escape(component["version"])
    pinned = rf"/releases/download/{version}/[\w-]+(?:{version.removeprefix('v')})?\.yaml"
    assert re.search(rf"{pinned}$|\?ref={version}(&timeout=\d+s)?$", address), address


def test_asset_with_a_version_in_its_name() -> None:
    (keda,) = [address for _, address in addresses() if "kedacore" in address]
    assert keda.endswith(f"/keda-{owner('urls', keda)['version'].removeprefix('v')}.yaml")


@pytest.mark.parametrize(("folder", "name", "tag"), images())
def test_image_has_the_listed_version(folder: str, name: str, tag: str) -> None:
    component = owner("images", name)
    assert folder in component["folders"]
    assert tag == component["version"], f"{name}:{tag}"


def test_nothing_floats() -> None:
    for path in FILES:
        lines = [line.partition("#")[0] for line in path.read_text().splitlines()]
        floating = [
            line
            for line in lines
            if re.search(r":latest|/latest/|[?/](ref=)?(main|master)\b", line)
        ]
        assert not floating, f"{path}: {floating}"
        for reference in IMAGE.findall("\n".join(line for line in lines if "image" in line)):
            assert ":" in reference or "art-explainer" in reference, (
                f"{path}: {reference} has no tag"
            )


def test_list_and_tree_name_the_same() -> None:
    listed = {folder for component in COMPONENTS for folder in component["folders"]}
    assert listed == set(FOLDERS)
    used = {owner("urls", address)["name"] for _, address in addresses()}
    used |= {owner("images", name)["name"] for _, name, _ in images()}
    assert used == {component["name"] for component in COMPONENTS}
    assert all(component["needs"] and component["why"] for component in COMPONENTS)


def test_the_order_is_documented() -> None:
    """Each folder is applied once, by the one command, in the order of its number."""
    readme = (PLATFORM / "README.md").read_text()
    applied = re.findall(
        r"^kubectl apply --server-side (?:--force-conflicts )?-k manifests/platform/(\S+)",
        readme,
        re.M,
    )
    assert applied == FOLDERS


@pytest.mark.parametrize(
    ("package", "component"), [("kfp", "kubeflow-pipelines"), ("kserve", "kserve")]
)
def test_library_and_server_agree(package: str, component: str) -> None:
    lock = (ROOT / "requirements" / "main.txt").read_text()
    locked = re.search(rf"^{package}==(\S+)", lock, re.M)
    (version,) = [c["version"] for c in COMPONENTS if c["name"] == component]
    assert locked is not None
    assert locked[1] == version.removeprefix("v")


def test_kserve_uses_our_gateway() -> None:
    gateway = yaml.safe_load((PLATFORM / "21-gateway" / "gateway.yaml").read_text())
    name = f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"
    assert (
        settings()["ingress"]["kserveIngressGateway"] == name == "kuberec-gateway/kuberec-gateway"
    )
    assert settings()["ingress"]["enableGatewayApi"] is True
    assert settings()["deploy"] == {"defaultDeploymentMode": "Standard"}
    assert gateway["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "All"}}


def test_kserves_model_fetcher_fits_the_endpoints_namespace() -> None:
    path = PLATFORM / "51-kserve" / "storage-container.yaml"
    container = yaml.safe_load(path.read_text())["spec"]["container"]
    overlay = PLATFORM.parent / "overlays/production/endpoint/storage-container.yaml"
    ours = yaml.safe_load(overlay.read_text())["spec"]["container"]
    assert container["securityContext"] == ours["securityContext"]
    assert container["image"] == ours["image"]


def test_the_runtime_that_trainings_name_is_installed() -> None:
    assert any("/overlays/runtimes?" in address for _, address in addresses())
