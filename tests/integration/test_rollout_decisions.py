"""An operator at a rollout: what is shown of one under way, and what a decision does to it.

Two tiny versions behind a real Envoy, both registered in MLflow; the rollout runs in a process of
its own, with a step that would take an hour.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_version import catalogue, write_tiny_version
from tracked_models import registered

from pipelines.rollout_target import find_target
from recommender.files import read_json, write_json
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports
from serving.rollout.embedded.rollout import rollout
from serving.settings import ServingConfig
from tracking.registry import champion
from tracking.settings import TrackingConfig
from tracking.store import open_store

KUBEREC = Path(sys.executable).parent / "kuberec"
OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
SCRIPT = """\
import sys
from pathlib import Path
from recommender.errors import KuberecError
from recommender.files import read_json
from serving.rollout.embedded.rollout import rollout
from serving.settings import ServingConfig
config = ServingConfig.model_validate(read_json(Path(sys.argv[3])))
try:
    rollout(Path(sys.argv[1]), Path(sys.argv[2]), config, print)
except KuberecError as error:
    sys.exit(str(error))
"""

pytestmark = pytest.mark.timeout(240)


class Place:
    """A state home in which OLD serves, and NEW lies ready."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / ".kuberec"
        port, admin_port = free_ports(2)
        steps = [{"percent": 25, "bake_s": 3600}, {"percent": 100, "bake_s": 1}]
        self.config = ServingConfig.model_validate(
            {
                "port": port,
                "admin_port": admin_port,
                "rollout": {"steps": steps, "look_every_s": 0.5, "own_requests_per_s": 100},
            }
        )
        names = TrackingConfig(experiment="tiny", model="tiny")
        self.store = open_store(names, self.home)
        old, self.new = self._version(OLD), self._version(NEW)
        rollout(old, self.home, self.config)
        write_json(folder / "serving.json", self.config.model_dump(mode="json"))

    def _version(self, version: str) -> Path:
        directory = write_tiny_version(self.folder / version, catalogue(), version)
        found = registered(self.store, self.folder / "trained" / version, version)
        said = {"model": "tiny", "experiment": "tiny", "uri": ""}
        said |= {"registered": found.number, "run": found.run}
        manifest = read_json(directory / "kuberec.json")
        write_json(directory / "kuberec.json", manifest | {"tracking": said})
        return directory

    def champion(self) -> str:
        """Id of the version that is it."""
        found = champion(self.store)
        return found.name if found else "none"

    def start(self) -> subprocess.Popen[str]:
        """A rollout of NEW, once it has a share and was looked at."""
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, self.new, self.home, self.folder / "serving.json"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        target = find_target("embedded", self.home, None, [])

        def looked() -> bool:
            assert process.poll() is None, process.communicate()[1]
            found = target.load()
            return bool(found and found.unfinished and found.steps and found.steps[-1].looks)

        wait_for(looked)
        return process

    def kuberec(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [str(KUBEREC), *arguments],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if not k.startswith("KUBEREC_")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + (done.stderr if status else "")

    def status(self) -> dict:
        return json.loads(self.kuberec("rollout", "status", "--json"))


def wait_for(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("operator"))
    try:
        yield made
    finally:
        EmbeddedEndpoint(made.home).stop_all()


def test_one_under_way_is_seen_and_given_up_on_demand(place: Place) -> None:
    process = place.start()
    found = place.status()
    assert found["serves"]["stable"] == OLD
    assert (found["serves"]["canary"], found["serves"]["percent"]) == (NEW, 25)
    assert str(process.pid) in found["holder"]
    assert found["rollout"]["steps"][0]["looks"]
    assert f"rollout of {NEW}, 25 %: under way (pid {process.pid}" in place.kuberec("status")
    shown = place.kuberec("rollout", "status")
    assert f"{OLD} with 75 % of the requests" in shown
    assert "step 1 of 2, 25 %" in shown

    said = place.kuberec("rollout", "abort")
    assert "was asked to abort" in said
    assert f"{NEW} was rolled back at 25 %, {OLD} serves alone" in said
    assert process.wait(timeout=60) == 1
    found = place.status()
    assert found["serves"] | {"trouble": ""} == {
        "stable": OLD, "canary": None, "percent": 0, "wanted_percent": 0,
        "stable_ready": True, "canary_ready": False, "trouble": "",
    }  # fmt: skip
    assert found["holder"] is None
    assert "rollout of" not in place.kuberec("status")
    assert place.champion() == OLD


def test_one_whose_process_was_killed_is_promoted_by_hand(place: Place) -> None:
    process = place.start()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "nobody is at it" in place.kuberec("rollout", "status")
    place.kuberec("rollout", "promote")
    found = place.status()
    assert (found["serves"]["stable"], found["serves"]["canary"]) == (NEW, None)
    assert found["rollout"]["status"] == "promoted"
    assert place.champion() == NEW

    rows = place.kuberec("rollout", "history")
    assert rows.index("promoted") < rows.index("rolled back")
    page = place.folder / "page.html"
    place.kuberec("rollout", "history", "--id", found["rollout"]["id"], "--html", str(page))
    assert "<svg" in page.read_text(encoding="utf-8")
    assert "kuberec rollout promote" in page.read_text(encoding="utf-8")


def test_the_way_back_makes_the_version_before_champion_again(place: Place) -> None:
    """Also where the registry is broken: then by hand, later."""
    said = place.kuberec("rollback")
    assert f"model version {OLD} serves again" in said
    assert f"version 1 ({OLD}) of 'tiny' is champion now (it was version 2, {NEW})" in said
    assert place.champion() == OLD
    database = place.home / "mlflow" / "mlflow.db"
    kept = database.read_bytes()
    database.write_bytes(b"no database" * 100)
    said = place.kuberec("rollback")
    assert f"model version {NEW} serves again" in said
    assert "kuberec models promote 2 --model tiny" in said
    assert place.status()["serves"]["stable"] == NEW
    database.write_bytes(kept)
    assert place.champion() == OLD
    place.kuberec("models", "promote", "2", "--model", "tiny")
    assert place.champion() == NEW


def test_of_an_endpoint_that_is_stopped_the_canary_is_given_up_as_well(place: Place) -> None:
    """Also one that cannot start any more, which keeps nothing else from serving."""
    endpoint = EmbeddedEndpoint(place.home, place.config)
    endpoint.switch(OLD)
    process = place.start()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    place.kuberec("stop")
    refused = place.kuberec("rollout", "promote", status=1)
    for way in ("`kuberec serve` starts it again", "`kuberec rollout abort` gives"):
        assert way in refused

    (endpoint.home.versions / NEW / "kuberec.json").unlink()
    said = place.kuberec("serve", "--detach")
    assert f"{NEW}, which was to have " in said
    assert "kuberec rollout abort" in said
    found = place.status()["serves"]
    assert (found["stable"], found["stable_ready"], found["percent"]) == (OLD, True, 0)
    assert (found["canary"], found["canary_ready"]) == (NEW, False)

    place.kuberec("stop")
    said = place.kuberec("rollout", "abort")
    assert f"{OLD} does not answer just now: " in said
    assert "kuberec serve" in said
    assert place.status()["rollout"]["status"] == "rolled_back"
    place.kuberec("serve", "--detach")
    found = place.status()["serves"]
    assert (found["stable"], found["stable_ready"], found["canary"]) == (OLD, True, None)
    assert (endpoint.state().weights, endpoint.state().replicas.keys()) == ({}, {OLD})
