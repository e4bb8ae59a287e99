"""One embedded tritonserver process on one model repository: start, wait until ready, stop."""

import http.client
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recommender.errors import KuberecError
from serving.local_server import LocalServer
from serving.ports import LOCAL, free_ports
from serving.process import find, spawn, stop
from serving.triton.command import EXIT_TIMEOUT_S, SHM_PREFIX, Ports, server_command
from serving.triton.environment import backend_directory, find_environment
from serving.triton.log import lost_a_port, telling_lines
from serving.triton.plain_paths import make_plain, remove_links, repository_argument
from serving.triton.repository import EMBEDDED, ENSEMBLE

Progress = Callable[[str], None]
_START_ATTEMPTS = 3  # a port found free can be gone a moment later


class TritonFailed(KuberecError):
    """A server that ended or did not become ready; the message carries the end of its log."""


class TritonServer(LocalServer):
    """A started Triton."""

    repository: Path
    metrics_port: int
    shm_prefix: str

    @property
    def ports(self) -> Ports:
        return Ports(self.http_port, self.grpc_port, self.metrics_port)

    def loaded(self) -> bool:
        """Whether it runs and every model of its repository is loaded and warm."""
        return self.alive() and http_status(self.http_port, "/v2/health/ready") == 200

    def ready(self) -> bool:
        """Whether it answers: a server whose stub process died still calls itself ready."""
        return self.loaded() and self.problem() is None

    def problem(self) -> str | None:
        """What Triton says to a request without known items; None if it answers."""
        # Another unknown item each time: a cached answer would hide a stub that died.
        history = {"name": "history", "shape": [1, 1], "datatype": "BYTES"}
        body = json.dumps({"inputs": [history | {"data": [uuid.uuid4().hex]}]})
        status, text = _request(self.http_port, f"/v2/models/{ENSEMBLE}/infer", body, 10.0)
        return None if status == 200 else text or "no answer within 10 s"

    def stop(self) -> None:
        """End it with its stub processes and shared memory; does nothing if it is gone."""
        stop(self.process, timeout_s=EXIT_TIMEOUT_S + 7)
        _remove_shared_memory(self.shm_prefix)
        remove_links(self.repository)


def start_triton(
    repository: Path,
    state: Path,
    log: Path,
    timeout_s: float = 90.0,
    progress: Progress | None = None,
    ports: Ports | None = None,
    variant: str = EMBEDDED,
) -> TritonServer:
    """Start a server on this machine and wait until it answers.

    Args:
        repository: a model repository; it is read once, later changes do nothing.
        state: folder for the backend's files, shared by all servers of one state home.
        log: file for the server's output; written anew.
        ports: of a server that ended, so that its clients find this one in its place; by
            default, and where one of them is taken by now, free ones.
        variant: which of the repository's configs it runs by: EMBEDDED, or STAGES for the ensemble
            as the full image has it.

    Raises:
        TritonMissing: the environment is not installed.
        TritonFailed: with the end of the log; nothing is left running.
    """
    for attempt in range(1, _START_ATTEMPTS + 1):
        chosen = ports if ports is not None and attempt == 1 else Ports(*free_ports(3))
        server = _launch(Path(repository).resolve(), state, log, chosen, variant)
        try:
            _wait_until_ready(server, timeout_s, progress or (lambda message: None))
            return server
        except TritonFailed:
            server.stop()
            if attempt == _START_ATTEMPTS or not lost_a_port(log):
                raise
        except BaseException:
            server.stop()
            raise
    raise AssertionError("unreachable")


@contextmanager
def temporary_triton(
    repository: Path, workdir: Path, progress: Progress | None = None, variant: str = EMBEDDED
) -> Iterator[TritonServer]:
    """A server that is gone when the block ends; its files go to `workdir`."""
    log = workdir / "triton.log"
    server = start_triton(repository, workdir, log, progress=progress, variant=variant)
    try:
        yield server
    finally:
        server.stop()


def stop_strays(repository: Path, known: set[int]) -> None:
    """Stop servers on `repository` other than `known` pids: a killed command left them."""
    repository = Path(repository).resolve()
    argument = f"--model-repository={repository_argument(repository)}"
    for process, command in find("tritonserver", argument):
        if process.pid not in known:
            stop(process, timeout_s=EXIT_TIMEOUT_S + 7)
            for part in command:
                if SHM_PREFIX in part:
                    _remove_shared_memory(part.partition(SHM_PREFIX)[2])
            remove_links(repository)


def http_status(port: int, path: str, timeout_s: float = 2.0) -> int | None:
    """Status of GET `path` on this machine, or None without an answer; proxies are not asked."""
    return _request(port, path, None, timeout_s)[0]


def _request(port: int, path: str, body: str | None, timeout_s: float) -> tuple[int | None, str]:
    connection = http.client.HTTPConnection(LOCAL, port, timeout=timeout_s)
    try:
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None, ""
    finally:
        connection.close()


def _launch(repository: Path, state: Path, log: Path, ports: Ports, variant: str) -> TritonServer:
    environment = find_environment()
    models, backends = make_plain(repository, backend_directory(environment, Path(state).resolve()))
    shm_prefix = f"kuberec_{uuid.uuid4().hex[:12]}_"
    command = server_command(environment, models, backends, variant, ports, shm_prefix)
    log.unlink(missing_ok=True)
    return TritonServer(
        process=spawn(command, log, environment.variables()),
        repository=repository,
        http_port=ports.http,
        grpc_port=ports.grpc,
        metrics_port=ports.metrics,
        shm_prefix=shm_prefix,
        log=log,
    )


def _wait_until_ready(server: TritonServer, timeout_s: float, progress: Progress) -> None:
    begin, said = time.monotonic(), -1
    while not server.loaded():
        seconds = time.monotonic() - begin
        if not server.alive():
            raise TritonFailed(
                f"Triton ended while it loaded '{server.repository}'. The end of its log "
                f"({server.log}):\n{telling_lines(server.log)}"
            )
        if seconds > timeout_s:
            raise TritonFailed(
                f"Triton was not ready after {timeout_s:.0f} s (serving.start_timeout_s). The end "
                f"of its log ({server.log}):\n{telling_lines(server.log)}"
            )
        loaded = server.log.read_text(errors="replace").count("successfully loaded")
        if loaded != said:
            progress(f"Triton is loading: {loaded} models ready ({seconds:.1f} s)")
            said = loaded
        time.sleep(0.05)
    problem = server.problem()
    if problem is not None:
        raise TritonFailed(
            f"Triton loaded '{server.repository}', but does not answer: {problem[:600]}\n"
            f"The end of its log ({server.log}):\n{telling_lines(server.log)}"
        )
    progress(f"Triton is ready ({time.monotonic() - begin:.1f} s)")


def _remove_shared_memory(prefix: str) -> None:
    for segment in Path("/dev/shm").glob(f"{prefix}*"):
        segment.unlink(missing_ok=True)
