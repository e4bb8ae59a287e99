"""What is measured, started side by side on one model version, and how to ask each of them."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.subject import Subject
from recommender.errors import KuberecError
from serving.client.requests import build_request
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.gateway import Publication, start_gateway
from serving.embedded.routes import Backend
from serving.ports import LOCAL, free_ports
from serving.process import ProcessRef, spawn, stop
from serving.settings import ServingConfig
from serving.triton.server import http_status

BARE, TRITON, ENVOY, WHOLE, PEER = (
    "bare ONNX Runtime",
    "Triton",
    "Triton through Envoy",
    "the whole way",
    "FastAPI + torch + Feast",
)


class Running(NamedTuple):
    """All systems, ready: `targets` are for benchmarks.load, `processes` lead their sessions."""

    targets: dict[str, dict[str, Any]]
    processes: dict[str, ProcessRef]


@contextmanager
def start(subject: Subject, config: ServingConfig, work: Path) -> Iterator[Running]:
    """Start everything on free ports, below `work`; all is stopped when the block ends."""
    with ExitStack() as undo:
        home = work / "home"
        home.mkdir()
        (home / "feature_store").symlink_to(subject.feature_store)
        ports = free_ports(4)
        ours = config.model_copy(update={"port": ports[0], "admin_port": ports[1]})
        endpoint = EmbeddedEndpoint(home, ours)
        undo.callback(endpoint.stop_all)
        name = subject.version.version
        endpoint.install(subject.version.directory)
        endpoint.switch(name)
        replica, door = endpoint.state().replicas[name], endpoint.state().gateway
        assert door is not None

        bare_door = config.model_copy(update={"port": ports[2], "admin_port": ports[3]})
        publication = Publication(work / "envoy", work / "envoy")
        triton = Backend(replica.triton.http_port, replica.triton.grpc_port)
        publication.write({name: triton}, {name: 100}, bare_door.request_timeout_s, None)
        gateway = start_gateway(bare_door, publication)
        undo.callback(stop, gateway.process)

        peer, peer_port = start_peer(subject, work / "peer.log")
        undo.callback(stop, peer)
        users, histories = list(subject.histories), list(subject.histories.values())
        by_history = [build_request(None, [each], None, None, None) for each in histories]
        by_user = [build_request([user], None, None, None, None) for user in users]
        yield Running(
            targets={
                TRITON: _over_grpc(replica.triton.grpc_url, by_history),
                ENVOY: _over_grpc(f"{LOCAL}:{bare_door.port}", by_history),
                WHOLE: _over_grpc(endpoint.url, by_user),
                PEER: {
                    "kind": "http",
                    "address": f"{LOCAL}:{peer_port}",
                    "path": "/recommend",
                    "requests": [json.dumps({"user_id": user}).encode().hex() for user in users],
                },
            },
            processes={
                "Triton": replica.triton.process,
                "transformer": replica.transformer.process,
                "Envoy": door.process,
                "Envoy before Triton": gateway.process,
                "peer": peer,
            },
        )


def start_peer(subject: Subject, log: Path) -> tuple[ProcessRef, int]:
    """A ready peer, and its port.

    Raises:
        KuberecError: it ended, or was not ready within a minute.
    """
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.peer", "--port", str(port)]
    command += ["--model", str(subject.student), "--feature_store", str(subject.feature_store)]
    command += ["--version", subject.version.version, "--k", str(subject.version.k)]
    process = spawn(command, log, dict(os.environ))
    deadline = time.monotonic() + 60
    while http_status(port, "/ready") != 200:
        if time.monotonic() > deadline:
            stop(process)
            raise KuberecError(f"the peer did not start; its log: {log}")
        time.sleep(0.02)
    return process, port


def _over_grpc(address: str, requests: Sequence[Any]) -> dict[str, Any]:
    return {
        "kind": "grpc",
        "address": address,
        "requests": [each.SerializeToString().hex() for each in requests],
    }
