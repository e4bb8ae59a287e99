"""MLflow's own pages on the store of this machine."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from pipelines.models_store import tracking_of
from pipelines.signals import signals_as_interrupt
from recommender.errors import KuberecError
from serving.ports import free_ports, require_free
from tracking.store import QUIET, TrackingError, exists, tracking_uri

PORT, HOST = 5000, "127.0.0.1"
START_TIMEOUT_S = 120.0


def run_ui(
    home: Path, config: Path | None, overrides: Sequence[str], port: int | None, console: Console
) -> None:
    """Serve the pages on loopback until Ctrl-C, SIGTERM or SIGHUP; of a server, print its address.

    Raises:
        KuberecError: nothing is tracked here yet; the port is taken; MLflow does not start.
    """
    section = tracking_of(config, overrides)
    uri = tracking_uri(section, home)
    if not uri.startswith("sqlite:"):
        console.print(f"MLflow's pages: {uri}", highlight=False, soft_wrap=True)
        return
    if not exists(section, home):
        raise TrackingError(f"nothing is tracked in '{home}' yet: kuberec run CONFIG.yaml")
    chosen = _port(port)
    log = home / "mlflow" / "ui.log"
    with signals_as_interrupt():
        server = _start(uri, chosen, log)
        try:
            with console.status("MLflow starts"):
                _wait(f"http://{HOST}:{chosen}/health", server, log)
            where = f"http://{HOST}:{chosen} (Ctrl-C stops them)"
            console.print(f"MLflow's pages: {where}", highlight=False, soft_wrap=True)
            server.wait()
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            _stop(server)


def _start(uri: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env=os.environ | QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # a signal of the terminal's is for us, who end it
        )


def _port(port: int | None) -> int:
    try:
        require_free(HOST, port or PORT, "--port")
    except KuberecError:
        if port is not None:
            raise
        return free_ports(1)[0]
    return port or PORT


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise KuberecError("\n  ".join([f"MLflow's pages did not start; '{log}' ends:", *said]))


def _stop(server: subprocess.Popen[bytes]) -> None:
    """The whole session: MLflow starts its workers as children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
