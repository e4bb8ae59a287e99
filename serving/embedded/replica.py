"""A replica: one Triton and one transformer of the same model version, started and mended.

Both start at the same time, on ports chosen beforehand. Of a replica that is there already only
the part that is dead or stuck is started again, on the ports it had, so that whoever is connected
to the other part, and Envoy, go on untouched.
"""

from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serving.embedded.routes import Backend
from serving.embedded.transformer import (
    TransformerFailed,
    TransformerPorts,
    TransformerServer,
    launch_transformer,
    stop_stray_transformers,
    wait_for_transformer,
)
from serving.ports import LOCAL, PortTaken, free_ports, require_free
from serving.process import keep_earlier
from serving.settings import ServingConfig
from serving.triton.server import Ports, Progress, TritonServer, start_triton, stop_strays

_START_ATTEMPTS = 3  # a port found free can be gone a moment later


class Replica(BaseModel):
    """Both parts of a version, as they were started; either may have ended since."""

    model_config = ConfigDict(frozen=True)

    triton: TritonServer
    transformer: TransformerServer

    @property
    def backend(self) -> Backend:
        """Where Envoy finds it."""
        return Backend(self.transformer.http_port, self.transformer.grpc_port)

    @property
    def side_url(self) -> str:
        """Host and port of the transformer's side door, which is for rollouts alone."""
        return self.transformer.side_url

    def pids(self) -> set[int]:
        return {self.triton.process.pid, self.transformer.process.pid}

    def alive(self) -> bool:
        return self.triton.alive() and self.transformer.alive()

    def ready(self) -> bool:
        # In this order: a transformer says no only after it has waited for its Triton.
        return self.alive() and self.triton.ready() and self.transformer.ready()

    def stop(self) -> None:
        """End both, first the transformer, whose last requests need Triton."""
        self.transformer.stop()
        self.triton.stop()


class Place:
    """Where a version's replica has its files: in the serving home, beside the feature store."""

    def __init__(self, root: Path, version: str) -> None:
        self.root = root
        self.version = version
        self.repository = root / "versions" / version
        self.triton_log = root / "logs" / f"triton-{version}.log"
        self.transformer_log = root / "logs" / f"transformer-{version}.log"
        self.settings = root / "transformers" / f"{version}.json"
        self.feature_store = root.parent / "feature_store"


def run_replica(
    place: Place, config: ServingConfig, progress: Progress, old: Replica | None = None
) -> Replica:
    """Start a replica, or what is missing of `old`, and wait until both parts are ready.

    A transformer of `old` that runs with other settings, or without a side door, is left alone, and
    one with the settings of `config` started on other ports: once the door points there, the caller
    stops it.

    Raises:
        TritonMissing, TransformerMissing: an environment is not installed.
        TritonFailed, TransformerFailed: with the end of the log; what was started is stopped again.
    """
    ports = free_ports(6)
    triton_ports, transformer_ports = Ports(*ports[:3]), TransformerPorts(*ports[3:])
    triton: TritonServer | None = None
    transformer: TransformerServer | None = None
    if old is not None:
        if old.triton.ready():
            triton = old.triton
        else:
            old.triton.stop()  # dead or stuck, perhaps with stub processes and shared memory left
        triton_ports = old.triton.ports
        if not old.transformer.answers():
            old.transformer.stop(timeout_s=1.0)  # stuck, if it still runs
            transformer_ports = old.transformer.ports
        elif old.transformer.side_port and old.transformer.settings == config.transformer:
            transformer = old.transformer

    def launch(chosen: TransformerPorts, predictor_port: int) -> TransformerServer:
        keep_earlier(place.transformer_log)
        progress(f"starting the transformer of model version {place.version}")
        started = launch_transformer(
            place.repository,
            chosen,
            predictor_port,
            place.feature_store,
            config.transformer,
            place.settings,
            place.transformer_log,
        )
        undo.callback(started.stop)
        return started

    kept, attempts = transformer, _START_ATTEMPTS
    with ExitStack() as undo:
        # First the one that does not wait for the other: Python imports while Triton loads.
        if transformer is None:
            transformer = launch(_still_free(transformer_ports), triton_ports.grpc)
        if triton is None:
            keep_earlier(place.triton_log)
            progress(f"starting Triton on model version {place.version}")
            triton = start_triton(
                place.repository,
                place.root,
                place.triton_log,
                config.start_timeout_s,
                progress,
                triton_ports,
            )
            undo.callback(triton.stop)
        if transformer.predictor_port != triton.grpc_port:  # somebody took Triton's port meanwhile
            transformer.stop()
            transformer = launch(transformer.ports, triton.grpc_port)
        while True:
            try:
                wait_for_transformer(transformer, config.start_timeout_s, progress)
                break
            except TransformerFailed:
                attempts -= 1
                if transformer is kept and not transformer.alive():
                    transformer = launch(transformer.ports, triton.grpc_port)  # ended meanwhile
                elif attempts and transformer.lost_a_port():
                    transformer = launch(_still_free(transformer.ports), triton.grpc_port)
                else:
                    raise
        undo.pop_all()
    return Replica(triton=triton, transformer=transformer)


def stop_stray_parts(version_dir: Path, known: set[int]) -> None:
    """Stop both kinds of a version's servers other than `known` pids."""
    stop_stray_transformers(version_dir, known)
    stop_strays(version_dir, known)


def _still_free(ports: TransformerPorts) -> TransformerPorts:
    """These ports, or others where one is taken: gRPC would share it without a word."""
    if not ports.side:
        return TransformerPorts(*free_ports(3))
    try:
        for port in ports:
            require_free(LOCAL, port, "")
    except PortTaken:
        return TransformerPorts(*free_ports(3))
    return ports
