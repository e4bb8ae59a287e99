"""`kuberec rollout` with the API server of KUBECONFIG: what an operator sees from a laptop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rollout_records
import yaml
from room import SERVICE, Room, new_room

from serving.inference_service import Canary, Serving, apply_serving
from serving.rollout.kserve.target import KServeTarget
from serving.settings import KubernetesConfig, ServingConfig

pytestmark = pytest.mark.timeout(240)
KUBEREC = Path(sys.executable).parent / "kuberec"
CONFIG = Path(__file__).resolve().parents[2] / "pipelines/configs/movielens-100k.yaml"


class Desk:
    """A folder with a run's YAML, beside a service with a canary that is held at 25 %."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.folder = folder
        run = yaml.safe_load(CONFIG.read_text())
        where = {"namespace": room.name, "inference_service": SERVICE}
        run["serving"] = {"kubernetes": where}
        (folder / "run.yaml").write_text(yaml.safe_dump(run))
        canary = Canary("green", "pvc://models/new", 25)
        served = Serving("blue", "pvc://models/old", canary)
        apply_serving(room.cluster, room.name, SERVICE, served)
        target = KServeTarget(ServingConfig(kubernetes=KubernetesConfig(**where)))
        held = rollout_records.held_blind()
        held.target, held.id = "kserve", "20261127T120000-held"
        earlier = rollout_records.promoted()
        earlier.target, earlier.id = "kserve", "20261126T120000-good"
        with target.exclusive():
            target.save(earlier)
            target.save(held)

    def kuberec(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(KUBEREC), "rollout", *arguments, "--target", "kserve", "--config", "run.yaml"],
            cwd=self.folder,
            env=os.environ | {"COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with new_room() as room:
        room.apply_manifests()
        yield Desk(room, tmp_path_factory.mktemp("desk"))


def test_what_serves_is_shown_with_the_rollout_that_is_held(desk: Desk) -> None:
    done = desk.kuberec("status")
    assert done.returncode == 0, done.stderr
    assert "canary new with 0 %, on its way to 25, not ready" in done.stdout
    assert "20261127T120000-held: held" in done.stdout
    assert "metrics cannot be read" in done.stdout
    assert "rollout promote" in done.stdout
    found = json.loads(desk.kuberec("status", "--json").stdout)
    assert (found["serves"]["stable"], found["serves"]["canary"]) == ("old", "new")
    assert found["holder"] is None
    assert found["rollout"]["id"] == "20261127T120000-held"


def test_the_history_and_its_pages_come_from_the_cluster(desk: Desk) -> None:
    rows = desk.kuberec("history").stdout
    assert rows.index("20261127T120000-held") < rows.index("20261126T120000-good")
    done = desk.kuberec("history", "--id", "20261126", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert "new was promoted" in (desk.folder / "page.html").read_text(encoding="utf-8")


def test_another_service_than_there_is_is_named(desk: Desk) -> None:
    done = desk.kuberec("status", "--set", "serving.kubernetes.inference_service=shop")
    assert done.returncode == 1
    assert "'shop'" in done.stderr
    assert "Traceback" not in done.stderr
