"""What the played controllers' pods and gateway really are: replicas on this machine.

Envoy with a transformer and a Triton for each version, as the embedded endpoint has them. The
Envoy's shares follow the HTTPRoute; a pod's side door leads to its version's transformer, through
the API server; and a real Prometheus scrapes them under the names that pods have.
"""

import contextlib
import random
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from feature_stores import sqlite_store
from room import SERVICE, Room
from scraper import prometheus
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import catalogue, write_tiny_version

from feature_repo.services import recommend_service
from feature_repo.store import open_embedded
from feature_repo.views import user_history
from recommender.files import sha256_file, write_json
from serving.client import RecommendClient, RecommendError, RetryPolicy
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.inference_service import deployment_name
from serving.ports import free_ports
from serving.rollout.settings import RolloutConfig
from serving.settings import KubernetesConfig, ServingConfig
from serving.version import ModelVersion

# v2 answers as v1 does, v3 with quite other items.
VERSIONS = {"v1": catalogue(), "v2": catalogue(), "v3": catalogue(prefix="other-")}
ROLLOUT = {
    "steps": [{"percent": 25, "bake_s": 3.0}, {"percent": 100, "bake_s": 2.0}],
    "look_every_s": 1.0,
    "max_wait_s": 30.0,
    "min_requests": 30,
    "own_requests_per_s": 60.0,
    "settle_s": 0.5,
    "max_unready_s": 1.0,
    "stable_timeout_s": 30.0,
    # Two cores are shared with a control plane and three replicas.
    "max_latency_ratio": 20.0,
    "latency_slack_ms": 500.0,
    "max_queue_increase_ms": 500.0,
}


class DataPlane:
    """Three versions that run, their registry, the gateway in front of them.

    Attributes:
        address: of this machine, not its loopback: the API server proxies to no such.
        prometheus: URL.
    """

    def __init__(self, folder: Path, gateway: EmbeddedEndpoint, address: str) -> None:
        self.folder, self.gateway, self.address = folder, gateway, address
        self.registry = folder / "registry.db"
        self.registry.write_bytes(b"recommend_v1 recommend_v2 recommend_v3")
        self.versions = {name: folder / name for name in VERSIONS}
        (folder / "models").mkdir()
        self.prometheus = ""
        self.doors: dict[str, int] = {}

    def config(
        self, room: Room, rollout: Mapping[str, object] | None = None, **changes: object
    ) -> ServingConfig:
        kubernetes = {
            "namespace": room.name,
            "model_store": "pvc://models/versions",
            "model_store_mount": str(self.folder / "models"),
            "gateway": self.gateway.url,
            "prometheus": self.prometheus,
            "ready_timeout_s": 60.0,
            "answer_timeout_s": 20.0,
        }
        return ServingConfig(
            kubernetes=KubernetesConfig.model_validate(kubernetes | changes),
            rollout=RolloutConfig.model_validate({**ROLLOUT, **(rollout or {})}),
        )

    def uri(self, version: str) -> str:
        return f"pvc://models/versions/{version}"

    def start_over(self) -> None:
        """v1 has all requests."""
        self.gateway.point_to("v1")

    def routed(self, shares: Mapping[str, int]) -> None:
        """Envoy does what the HTTPRoute says."""
        with self.gateway.locked():
            current = self.gateway.state().current
            if current not in shares:
                (alone,) = shares
                self.gateway.point_to(alone)
            else:
                self.gateway.split(shares)

    def scraped_as(self, room: Room, slots: Mapping[str, str]) -> None:
        """Let Prometheus know the versions' replicas as pods of these slots: {version: slot}."""
        groups = []
        for version, slot in slots.items():
            replica = self.gateway.state().replicas[version]
            ports = replica.transformer.http_port, replica.triton.metrics_port
            pod = f"{deployment_name(SERVICE, slot)}-local"
            groups.append(
                {
                    "targets": [f"127.0.0.1:{port}" for port in ports],
                    "labels": {"namespace": room.name, "pod": pod},
                }
            )
        write_json(self.folder / "targets.json", groups)


@contextmanager
def other_claims(version_dir: Path) -> Iterator[None]:
    """For a block a version's folder claims other answers than it gives."""
    golden, manifest = version_dir / "golden.json", version_dir / "kuberec.json"
    before = golden.read_text(), manifest.read_text()
    digest = ModelVersion.model_validate_json(before[1]).files["golden.json"]
    golden.write_text(before[0].replace('"item-', '"other-'))
    manifest.write_text(before[1].replace(digest, sha256_file(golden)))
    try:
        yield
    finally:
        golden.write_text(before[0])
        manifest.write_text(before[1])


class Clients(threading.Thread):
    """Ask the gateway for histories at random, 20 times a second, until the block ends.

    Attributes:
        failed: errors, of which none was to be.
    """

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url, self._ended = url, threading.Event()
        self.failed: list[str] = []

    def __enter__(self) -> "Clients":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        chance, items = random.Random(1), catalogue()
        with RecommendClient(self._url, 20.0, RetryPolicy(attempts=1)) as client:
            while not self._ended.wait(0.05):
                try:
                    client.recommend(chance.sample(items, 4))
                except RecommendError as error:
                    self.failed.append(str(error))


@contextmanager
def data_plane(folder: Path) -> Iterator[DataPlane]:
    """All of it, until the block ends."""
    for name, items in VERSIONS.items():
        write_tiny_version(folder / name, items, name)
    store = sqlite_store(folder / "home" / "feature_store", HISTORIES)
    write_json(store / "versions.json", [VERSION, *VERSIONS])
    view = user_history(store / "offline")
    open_embedded(store).apply([recommend_service(version, view) for version in VERSIONS])
    port, admin_port = free_ports(2)
    endpoint = EmbeddedEndpoint(folder / "home", ServingConfig(port=port, admin_port=admin_port))
    with contextlib.ExitStack() as stack:
        stack.callback(endpoint.stop_all)
        for name in VERSIONS:
            endpoint.install(folder / name)
        endpoint.point_to("v1")
        plane = DataPlane(folder, endpoint, own_address())
        for name in VERSIONS:
            replica = endpoint.start(name)
            to = replica.transformer.side_port
            plane.doors[name] = stack.enter_context(_forwarder(plane.address, to))
        plane.prometheus = stack.enter_context(prometheus(folder))
        yield plane


def own_address() -> str:
    """Of this machine, as others see it. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


class _Pipe(socketserver.BaseRequestHandler):
    to: int

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.to)) as other:
            back = threading.Thread(target=_copy, args=(other, self.request), daemon=True)
            back.start()
            _copy(self.request, other)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def _forwarder(address: str, to: int) -> Iterator[int]:
    """A port of `address` that leads to a port of the loopback."""
    handler = type("Pipe", (_Pipe,), {"to": to})
    with socketserver.ThreadingTCPServer((address, 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
