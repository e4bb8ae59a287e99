"""MLflow's real server: killed while a training runs, and as the pages of a state home."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tracked_models import INPUTS, SECTIONS, curves, registered, trained

from serving.ports import free_ports, require_free
from tracking.lineage import trace
from tracking.registry import champion, set_alias
from tracking.runs import training_run
from tracking.settings import TrackingConfig
from tracking.store import QUIET, open_store

pytestmark = pytest.mark.timeout(600)  # it starts in seconds, in minutes on a busy machine


class Server:
    """MLflow's, with SQLite and artifacts that it hands on."""

    def __init__(self, folder: Path) -> None:
        self.folder, (self.port,) = folder, free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    found = Server(folder)
    found.start()
    yield found
    found.kill()


def test_a_server_that_dies_in_a_training_loses_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    home = tmp_path / "home"
    section = TrackingConfig(uri=server.uri, experiment="trainings", model="films")
    store = open_store(section, home)
    said: list[str] = []
    with training_run(store, "key", SECTIONS, INPUTS, said.append) as run:
        rows = curves(3)
        run.log(0, rows[0])
        server.kill()
        run.log(1, rows[1])
        assert said[0].startswith("1 epochs wait for MLflow: MLflow at http://127.0.0.1")
        server.start()
        run.log(2, rows[2])
        history = store.client.get_metric_history(run.id, "curves/train_loss")
        assert [(row.step, row.value) for row in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
        run.finish(trained(tmp_path / "model"))
    assert store.client.get_run(run.id).info.status == "FINISHED"

    version = registered(store, tmp_path / "version", "aaaa00000001")
    assert champion(store) is None
    set_alias(store, version.number, "champion")
    found = champion(store)
    assert (found.version, found.name) == ("1", "aaaa00000001")
    copied = found.model_dir()  # handed on by the server, kept in the home's cache
    assert copied.is_relative_to(home / "cache")
    names = sorted(path.name for path in (tmp_path / "version/model").iterdir())
    assert sorted(path.name for path in copied.iterdir()) == names
    lineage = trace(store, version)
    assert lineage.snapshot["kept"]["events"] == 97
    assert not lineage.lost
    assert not (home / "mlflow").exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_pages_of_a_home_answer_and_leave_nothing_behind(tmp_path, end):
    home, (port,) = tmp_path / "home", free_ports(1)
    registered(open_store(TrackingConfig(model="films"), home), tmp_path / "one", "aaaa00000001")
    kuberec = Path(sys.executable).with_name("kuberec")
    pages = subprocess.Popen(
        [kuberec, "models", "ui", "--port", str(port)],
        env=os.environ | {"KUBEREC_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert pages.stdout is not None
    assert (
        pages.stdout.readline() == f"MLflow's pages: http://127.0.0.1:{port} (Ctrl-C stops them)\n"
    )
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
        assert "<title>MLflow</title>" in page.read().decode()
    api = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/search"
    with urllib.request.urlopen(api, timeout=60) as answer:
        assert [each["name"] for each in json.load(answer)["registered_models"]] == ["films"]
    pages.send_signal(end)
    assert pages.wait(timeout=60) == 0
    require_free("127.0.0.1", port, "the pages' port")
