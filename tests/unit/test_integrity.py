"""Whatever way a version goes, files that are not as they were sealed stop it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import DAMAGES
from tiny_version import catalogue, write_tiny_version

from pipelines.items_version import _embedded
from serving.embedded import versions
from serving.embedded.processes import Processes
from serving.embedded.state import ServingHome, State
from serving.kubernetes.model_store import fetch_published, publish
from serving.rollout.embedded.rollout import rollout as embedded_rollout
from serving.rollout.kserve.rollout import rollout as kserve_rollout
from serving.settings import ServingConfig
from serving.triton.engine.build import build_engine
from serving.version import VersionError, load_version


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("good") / "v1", catalogue(), "v1")


def installed(version: Path, folder: Path) -> ServingHome:
    home = ServingHome(folder / "home")
    shutil.copytree(version, home.versions / "v1")
    home.save(State(current="v1"))
    return home


def start_again(version: Path, folder: Path) -> object:
    """What `serve`, the keeper, `rollback` and a rollout's `promote` start a replica by."""
    home = installed(version, folder)
    return Processes(home, ServingConfig(), print).run(home.load(), "v1")


def refresh(version: Path, folder: Path) -> object:
    installed(version, folder)
    return _embedded(folder / "home")


def refresh_on_cluster(version: Path, folder: Path) -> object:
    shutil.copytree(version, folder / "mount/v1")
    return fetch_published("pvc://models/v1", folder / "mount", folder)


def deploy(version: Path, folder: Path) -> object:
    return kserve_rollout(version, None, cluster=object())  # it is not asked before


PATHS: dict[str, Callable[[Path, Path], object]] = {
    "installed": lambda version, folder: versions.install(version, folder / "versions", ()),
    "started": start_again,
    "rolled out here": lambda version, folder: embedded_rollout(version, folder / "home"),
    "deployed": deploy,
    "published": lambda version, folder: publish(version, None, "pvc://models", folder),
    "refreshed": refresh,
    "refreshed on a cluster": refresh_on_cluster,
    "built an engine of": lambda version, folder: build_engine(version),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("path", PATHS)
def test_a_damaged_version_is_not(path: str, damage: str, good: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(good, tmp_path / "bad/v1")
    DAMAGES[damage].does(bad)
    with pytest.raises(VersionError) as refused:
        PATHS[path](bad, tmp_path)
    assert DAMAGES[damage].says in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_installed_version_that_was_damaged_is_made_good(
    damage: str, good: Path, tmp_path: Path
) -> None:
    home = installed(good, tmp_path)
    DAMAGES[damage].does(home.versions / "v1")
    versions.install(good, home.versions, ("v1",))
    load_version(home.versions / "v1")
