"""`kuberec items refresh --target kserve`: the version that a cluster serves, made larger."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from feature_stores import HISTORIES, sqlite_store
from genre_version import known_items, title, write_genre_version, write_items
from room import SERVICE, Room, new_room

from feature_repo.store import registry_file
from recommender.files import write_json
from serving.inference_service import Serving, apply_serving, get_service, read_serving
from serving.kubernetes.model_store import publish
from serving.version import REGISTRY, load_version

pytestmark = pytest.mark.timeout(240)
KUBEREC = Path(sys.executable).parent / "kuberec"
CONFIG = Path(__file__).resolve().parents[2] / "pipelines/configs/movielens-100k.yaml"
STORE = "pvc://models/versions"


class Desk:
    """A state home as a pipeline left it, its version published and named in a service."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.room, self.folder, self.home = room, folder, folder / "home"
        version = load_version(write_genre_version(folder / "made"))
        self.version = version.version
        store = sqlite_store(self.home / "feature_store", HISTORIES, [self.version])
        write_json(store / "versions.json", [self.version])
        self.models = folder / "models"
        self.models.mkdir()
        uri = publish(version.directory, registry_file(self.home), STORE, self.models)
        apply_serving(room.cluster, room.name, SERVICE, Serving("blue", uri))
        run = yaml.safe_load(CONFIG.read_text())
        sections = json.loads((version.directory / "kuberec.json").read_text())["config"]
        run["source"] = sections["source"]
        where = {
            "namespace": room.name,
            "inference_service": SERVICE,
            "model_store": STORE,
            "model_store_mount": str(self.models),
            "ready_timeout_s": 2.0,
        }
        run["serving"] = {"kubernetes": where}
        (folder / "run.yaml").write_text(yaml.safe_dump(run))
        self.items = folder / "made" / "items.csv"

    def refresh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KUBEREC), "items", "refresh", "run.yaml", "--target", "kserve", *arguments],
            cwd=self.folder,
            env=os.environ | {"COLUMNS": "160", "KUBEREC_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def serves(self) -> str | None:
        cluster = self.room.cluster
        return read_serving(get_service(cluster, self.room.name, SERVICE)).storage_uri


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with new_room() as room:
        room.apply_manifests()
        yield Desk(room, tmp_path_factory.mktemp("desk"))


def test_new_items_join_the_version_that_the_cluster_serves(desk: Desk) -> None:
    served = desk.serves()
    done = desk.refresh()
    assert (done.returncode, "nothing to do" in done.stdout) == (0, True), done.stderr

    write_items(desk.items, known_items() | {"n-space": title("space", 100)})
    found = json.loads(desk.refresh("--dry-run", "--json").stdout)
    assert (found["parent"], found["new"]) == (desk.version, ["n-space"])

    # Without nodes no pod comes: what served is named again, and the version stays published.
    done = desk.refresh()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert desk.serves() == served
    (made,) = [each for each in (desk.models / "versions").iterdir() if each.name != desk.version]
    version = load_version(made)
    assert json.loads((made / "kuberec.json").read_text())["items"]["added"] == ["n-space"]
    assert f"recommend_{version.version}".encode() in (made / REGISTRY).read_bytes()
