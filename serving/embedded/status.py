"""What the embedded endpoint is doing, as plain data for a screen or a program."""

from typing import Any

from serving.embedded.gateway import gateway_serves
from serving.embedded.state import State
from serving.ports import LOCAL
from serving.process import alive
from serving.settings import ServingConfig


def client_url(config: ServingConfig) -> str:
    """host:port where clients of this machine reach the door, for REST and gRPC alike."""
    host = {"0.0.0.0": LOCAL, "::": "[::1]"}.get(config.host, config.host)
    return f"{host}:{config.port}"


def describe(state: State, config: ServingConfig) -> dict[str, Any]:
    """The door and both versions.

    Returns:
        serving (the door is open and the current version ready), url, grpc_url, admin_url,
        gateway_pid, and current and previous: None or {version, ready, pid, http_url, grpc_url,
        metrics_url, log}, the last five only while a server is known.
    """
    gateway, current = state.gateway, _describe_version(state, state.current)
    running = gateway is not None and alive(gateway.process)
    url = client_url(config)
    return {
        "serving": gateway_serves(gateway, config) and bool(current and current["ready"]),
        "url": f"http://{url}",
        "grpc_url": url,
        "admin_url": f"http://{LOCAL}:{config.admin_port}",
        "gateway_pid": gateway.process.pid if gateway is not None and running else None,
        "current": current,
        "previous": _describe_version(state, state.previous),
    }


def _describe_version(state: State, version: str | None) -> dict[str, Any] | None:
    if version is None:
        return None
    server = state.servers.get(version)
    if server is None:
        return {"version": version, "ready": False}
    return {
        "version": version,
        "ready": server.ready(),
        "pid": server.process.pid,
        "http_url": server.http_url,
        "grpc_url": server.grpc_url,
        "metrics_url": f"http://{LOCAL}:{server.metrics_port}/metrics",
        "log": str(server.log),
    }
