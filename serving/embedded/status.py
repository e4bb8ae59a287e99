"""What the embedded endpoint is doing, as plain data for a screen or a program."""

from typing import Any

from serving.embedded.gateway import gateway_serves
from serving.embedded.state import ServingHome, State
from serving.embedded.transformer import TransformerServer
from serving.ports import LOCAL
from serving.process import alive
from serving.settings import ServingConfig
from serving.triton.server import TritonServer


def client_url(config: ServingConfig) -> str:
    """host:port where clients of this machine reach the door, for REST and gRPC alike."""
    host = {"0.0.0.0": LOCAL, "::": "[::1]"}.get(config.host, config.host)
    return f"{host}:{config.port}"


def describe(state: State, config: ServingConfig, home: ServingHome) -> dict[str, Any]:
    """The door, the versions behind it and the one kept for a way back.

    Returns:
        serving (the door is open and the current version is ready, which answers for others that
        have a share and are not), url, grpc_url,
        admin_url, stats_url, gateway_pid, logs (a folder), access_log, and versions: those that
        have a share, the current one first, each {version, percent, ready, parts}; current: the
        first of them, or None; previous: the same without percent, or None; kept_by: the pid of
        the process that starts again what dies, or None. parts, of what is known, are transformer
        and triton: {pid (None if it ended), ready, http_url, grpc_url, metrics_url, log}.
    """
    gateway, keeper = state.gateway, state.foreground
    running = gateway is not None and alive(gateway.process)
    url, admin_url = client_url(config), f"http://{LOCAL}:{config.admin_port}"
    versions = [_version(state, v) | {"percent": share} for v, share in state.shares.items()]
    return {
        "serving": gateway_serves(gateway, config) and bool(versions) and versions[0]["ready"],
        "url": f"http://{url}",
        "grpc_url": url,
        "admin_url": admin_url,
        "stats_url": f"{admin_url}/stats/prometheus",
        "kept_by": keeper.pid if keeper is not None and alive(keeper) else None,
        "gateway_pid": gateway.process.pid if gateway is not None and running else None,
        "logs": str(home.logs),
        "access_log": str(home.logs / "access.log"),
        "versions": versions,
        "current": versions[0] if versions else None,
        "previous": None if state.previous is None else _version(state, state.previous),
    }


def _version(state: State, version: str) -> dict[str, Any]:
    replica = state.replicas.get(version)
    if replica is None:
        return {"version": version, "ready": False, "parts": {}}
    transformer, triton = replica.transformer, replica.triton
    parts = {
        "transformer": _part(transformer, transformer.http_port),
        "triton": _part(triton, triton.metrics_port),
    }
    ready = all(part["ready"] for part in parts.values())
    return {"version": version, "ready": ready, "parts": parts}


def _part(server: TransformerServer | TritonServer, metrics_port: int) -> dict[str, Any]:
    return {
        "pid": server.process.pid if server.alive() else None,
        "ready": server.ready(),
        "http_url": server.http_url,
        "grpc_url": server.grpc_url,
        "metrics_url": f"http://{LOCAL}:{metrics_port}/metrics",
        "log": str(server.log),
    }
