"""The serving commands, from a state home whose path a shell would take apart."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from tiny_version import catalogue, write_tiny_version
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.serve import address, serve, show_status, stop
from recommender.errors import KuberecError
from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import PortTaken, free_ports
from serving.process import find
from serving.rollout.embedded.rollout import rollout
from serving.settings import ServingConfig
from serving.triton.plain_paths import repository_argument
from serving.version import VersionError

VERSION = "aaaaaaaaaaaa"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state home with one version that serves in the background."""
    home = tmp_path / "my $HOME; (état)"
    port, admin_port = free_ports(2)
    config = ServingConfig(port=port, admin_port=admin_port)
    source = write_tiny_version(tmp_path / "v", catalogue(), VERSION)
    try:
        rollout(source, home, config)
        yield home
    finally:
        stop(home, Console(quiet=True))
        assert processes(home) + keepers(home) == []
        assert not repository_argument(repository(home)).parent.exists()


def repository(home: Path) -> Path:
    return home.resolve() / "serving/versions" / VERSION


def processes(home: Path) -> list[int]:
    """Tritons, transformers and gateways of this home."""
    triton = f"--model-repository={repository_argument(repository(home))}"
    transformer = f"--model_dir={repository(home)}"
    envoy = str(home.resolve() / "serving/envoy/bootstrap.json")
    found = find("tritonserver", triton) + find("python", transformer) + find("envoy", envoy)
    return [process.pid for process, _ in found]


def keepers(home: Path) -> list[int]:
    """Processes that keep this home's endpoint running."""
    return [process.pid for process, _ in find(Path(sys.executable).name, str(home.absolute()))]


def answers(url: str) -> bool:
    with RecommendClient(url) as client:
        return client.recommend(history=[]).version == VERSION


def foreground(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "serve", *arguments]
    environment = os.environ | {"KUBEREC_HOME": str(home)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def serves(home: Path) -> bool:
    try:
        return answers(address(home))
    except KuberecError:
        return False


@pytest.mark.parametrize("port", ["0", "99999"])
def test_impossible_ports_are_refused(port: str) -> None:
    found = CliRunner().invoke(app, ["serve", "--port", port])
    assert found.exit_code == 2
    assert "Invalid value for '--port'" in found.output


def test_a_refused_serve_leaves_what_runs_alone(home: Path, console: Console) -> None:
    before, url = processes(home), address(home)
    assert len(before) == 3
    assert answers(url)
    (other,) = free_ports(1)
    with pytest.raises(KuberecError, match=rf"open at {url} already; .*serve --port {other}"):
        serve(home, console, port=other, detach=True)
    serve(home, console, port=None, detach=False)
    assert "already serving; end it with: kuberec stop" in console.export_text(clear=False)
    assert processes(home) == before
    (keeper,) = keepers(home)
    assert f"kept running by pid {keeper}, in the background" in console.export_text(clear=False)
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: keepers(home) == [])
    show_status(home, console)
    assert "nobody starts its parts again: kuberec serve" in console.export_text()

    # A part of it is dead, and cannot be started: the other part stays.
    state = EmbeddedEndpoint(home).state()
    replica = state.replicas[VERSION]
    os.kill(replica.triton.process.pid, signal.SIGKILL)
    with (repository(home) / "ranker/1/model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(VersionError, match="changed"):
        serve(home, console, port=None, detach=False)
    assert state.gateway is not None
    assert processes(home) == [replica.transformer.process.pid, state.gateway.process.pid]
    show_status(home, console)
    status = console.export_text()
    assert f"transformer of {VERSION}: pid {replica.transformer.process.pid}" in status
    assert f"Triton of {VERSION}: ended" in status


def test_a_background_endpoint_has_a_keeper(home: Path, console: Console) -> None:
    assert keepers(home) == []
    for _ in range(2):
        serve(home, console, port=None, detach=True)
        assert len(keepers(home)) == 1
    triton = EmbeddedEndpoint(home).state().replicas[VERSION].triton
    os.kill(triton.process.pid, signal.SIGKILL)
    wait_for(lambda: EmbeddedEndpoint(home).state().replicas[VERSION].triton != triton)
    wait_for(lambda: serves(home))
    log = home / "serving" / "logs" / "keeper.log"
    assert f"Triton of model version {VERSION}" in log.read_text()
    wait_for(lambda: "ready again after" in log.read_text())
    said = log.read_text()

    os.kill(keepers(home)[0], signal.SIGKILL)
    wait_for(lambda: keepers(home) == [])
    serve(home, console, port=None, detach=True)
    assert log.read_text() == ""
    assert log.with_name("keeper.log.1").read_text() == said


def test_foreground_on_another_port_until_stopped(home: Path, console: Console) -> None:
    stop(home, console)
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortTaken, match=f"port {port} is taken"):
            serve(home, console, port=port, detach=False)
    assert processes(home) == []

    running = foreground(home, "--port", str(port))
    try:
        wait_for(lambda: EmbeddedEndpoint(home).state().foreground)  # named once all is started
        wait_for(lambda: serves(home))
        assert address(home) == f"127.0.0.1:{port}"  # every command finds it there
        show_status(home, console)
        shown = console.export_text()
        assert f"serves at http://127.0.0.1:{port} " in shown
        assert f"kept running by pid {running.pid}, kuberec serve in the foreground" in shown
        assert re.search(rf"transformer of {VERSION}: pid \d+, ready, metrics http://", shown)
        assert re.search(rf"Triton of {VERSION}: pid \d+, ready, metrics http://", shown)
        assert re.search(r"Envoy: pid \d+, admin http://\S+, stats http://\S+/stats/", shown)

        gateway = EmbeddedEndpoint(home).state().gateway
        assert gateway is not None
        os.kill(gateway.process.pid, signal.SIGKILL)
        wait_for(lambda: EmbeddedEndpoint(home).state().gateway != gateway)
        wait_for(lambda: serves(home))
        assert address(home) == f"127.0.0.1:{port}"

        (home / "serving" / "settings.json").write_text("{")  # which is no reason to serve on
        stop(home, console)
        assert running.wait(1) == 0
        assert processes(home) == []
        assert "by another command" in running.communicate()[0]
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_it_starts_leaves_nothing(
    home: Path, console: Console, number: signal.Signals
) -> None:
    stop(home, console)
    running = foreground(home)
    try:
        wait_for(lambda: processes(home))
        running.send_signal(number)
        running.wait(20)
        assert processes(home) == []
    finally:
        running.kill()
        running.wait()


def test_an_impatient_ctrl_c_breaks_off_no_cleaning_up(home: Path, console: Console) -> None:
    stop(home, console)
    running = foreground(home)
    try:
        wait_for(lambda: EmbeddedEndpoint(home).state().foreground)
        wait_for(lambda: serves(home))
        for _ in range(3):
            running.send_signal(signal.SIGINT)
            time.sleep(0.1)
        assert running.wait(20) == 0
        assert processes(home) == []
        assert EmbeddedEndpoint(home).state().foreground is None
    finally:
        running.kill()
        running.wait()
