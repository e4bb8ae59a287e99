"""One transformer process beside its version's Triton: start, wait until ready, stop."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from recommender.errors import KuberecError
from recommender.files import write_json
from serving.local_server import LocalServer
from serving.ports import LOCAL
from serving.process import find, log_tail, spawn, stop
from serving.settings import TransformerConfig
from serving.triton.repository import ENSEMBLE
from serving.triton.server import Progress, http_status

VARIABLE = "KUBEREC_TRANSFORMER_ENV"
# It answers the requests under way before it ends.
_EXIT_TIMEOUT_S = 20.0
# A busy one may take its time; one that is stopped or stuck takes for ever.
_LIVE_TIMEOUT_S = 3.0
_PORT_LOST = ("address already in use", "Failed to bind", "Failed to add port")


class TransformerMissing(KuberecError):
    """The environment of the transformer is not installed."""


class TransformerFailed(KuberecError):
    """A transformer that ended or did not become ready; carries the end of its log."""


class TransformerPorts(NamedTuple):
    """Where one transformer listens: for clients by REST and gRPC, for a rollout by its side door.

    `side` 0: it has no side door.
    """

    http: int
    grpc: int
    side: int = 0


class TransformerServer(LocalServer):
    """A started transformer."""

    version_dir: Path
    predictor_port: int
    settings: TransformerConfig
    side_port: int = 0  # of one that an earlier kuberec started, which has no side door

    @property
    def ports(self) -> TransformerPorts:
        return TransformerPorts(self.http_port, self.grpc_port, self.side_port)

    @property
    def side_url(self) -> str:
        """Host and port of its side door."""
        return f"{LOCAL}:{self.side_port}"

    def answers(self) -> bool:
        """Whether it runs and is not stuck, whatever its Triton does."""
        return (
            self.alive() and http_status(self.http_port, "/v2/health/live", _LIVE_TIMEOUT_S) == 200
        )

    def ready(self) -> bool:
        """Whether it and its Triton are ready to answer."""
        return self.alive() and http_status(self.http_port, "/v2/health/ready") == 200

    def lost_a_port(self) -> bool:
        """Whether it ended because somebody else had taken one of its ports."""
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return not self.alive() and any(sign in text for sign in _PORT_LOST)

    def stop(self, timeout_s: float = _EXIT_TIMEOUT_S) -> None:
        """End it after the requests under way; does nothing if it is gone."""
        stop(self.process, timeout_s)


def launch_transformer(
    version_dir: Path,
    ports: TransformerPorts,
    predictor_port: int,
    feature_store: Path,
    config: TransformerConfig,
    settings: Path,
    log: Path,
) -> TransformerServer:
    """Start the process, and leave it to become ready (`wait_for_transformer`).

    Args:
        version_dir: the installed model version, which also names the process.
        ports: on this machine only.
        predictor_port: gRPC port of the version's Triton, which need not be there yet.
        feature_store: the embedded store's folder; it need not be there either.
        settings: file to write `config` to, for the process to read.

    Raises:
        TransformerMissing: saying what to install.
    """
    python = _find_python()
    write_json(settings, config.model_dump(mode="json"))
    command = [
        str(python),
        "-P",  # modules come from the environment, never from the folder it was started in
        "-m",
        "serving.transformer",
        f"--model_name={ENSEMBLE}",
        f"--host={LOCAL}",
        f"--http_port={ports.http}",
        f"--grpc_port={ports.grpc}",
        f"--predictor_host={LOCAL}:{predictor_port}",
        "--predictor_protocol=grpc-v2",
        "--enable_predictor_health_check",
        _argument(version_dir),
        f"--feature_store={feature_store}",
        f"--settings={settings}",
        *([f"--side_port={ports.side}"] if ports.side else []),
    ]
    return TransformerServer(
        process=spawn(command, log, _variables()),
        version_dir=version_dir,
        http_port=ports.http,
        grpc_port=ports.grpc,
        side_port=ports.side,
        predictor_port=predictor_port,
        settings=config,
        log=log,
    )


def wait_for_transformer(server: TransformerServer, timeout_s: float, progress: Progress) -> None:
    """Return when it, and the Triton behind it, are ready.

    Raises:
        TransformerFailed: with the end of the log; the process is left to the caller.
    """
    begin = time.monotonic()
    while not server.ready():
        if not server.alive():
            problem = "ended while it started"
        elif time.monotonic() - begin > timeout_s:
            problem = f"was not ready after {timeout_s:.0f} s (serving.start_timeout_s)"
        else:
            time.sleep(0.05)
            continue
        raise TransformerFailed(
            f"the transformer of '{server.version_dir.name}' {problem}. The end of its log "
            f"({server.log}):\n{log_tail(server.log)}"
        )
    progress("the transformer is ready")


def stop_stray_transformers(version_dir: Path, known: set[int]) -> None:
    """Stop transformers of `version_dir` other than `known` pids: a killed command left them."""
    for process, _ in find("python", _argument(Path(version_dir).resolve())):
        if process.pid not in known:
            stop(process, timeout_s=_EXIT_TIMEOUT_S)


def _argument(version_dir: Path) -> str:
    return f"--model_dir={version_dir}"


def _find_python() -> Path:
    """The Python of the environment named by KUBEREC_TRANSFORMER_ENV, or of `.venv-transformer`."""
    default = Path(__file__).resolve().parents[2] / ".venv-transformer"
    root = Path(os.environ.get(VARIABLE) or default).absolute()
    python = root / "bin" / "python"
    if not python.exists():
        raise TransformerMissing(
            f"the transformer is not installed in '{root}': run `make install`, "
            f"or name its environment in {VARIABLE}"
        )
    return python


def _variables() -> dict[str, str]:
    """This process's variables, but for other Pythons' modules and metrics kept in files."""
    others = ("PYTHON", "VIRTUAL_ENV", "PROMETHEUS_MULTIPROC", "prometheus_multiproc")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    # Feast makes a folder for its own server's metrics, and leaves it if it is killed, unless it
    # is told of one. Nothing is written there: metrics.py has chosen memory before Feast comes.
    return variables | {"PROMETHEUS_MULTIPROCESS_DIR": ""}
