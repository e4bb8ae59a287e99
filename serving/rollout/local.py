"""Roll a model version out on this machine: beside the current one, checked, switched, checked."""

from pathlib import Path
from typing import Any

from recommender.errors import Check, require
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.state import State
from serving.parity import parity, triton_answers
from serving.settings import ServingConfig
from serving.triton.server import Progress
from serving.version import GoldenRequest

GATE = "rollout"


def rollout(
    version_dir: Path,
    home: Path,
    config: ServingConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let a model version serve, or leave everything as it was.

    Installs and starts it beside the current version, replays its golden requests on its own
    server, turns the door, and replays them through the door. A version that serves already is
    only checked. The version before keeps running for an instant way back.

    Returns:
        {version, reused, previous, url, grpc_url, rows}: rows are {name, value, limit, passed}.

    Raises:
        GateFailed: an answer is off its limit; VersionError: the files are not as exported;
        TritonFailed, GatewayFailed, PortTaken: something did not start. In every case the new
        version is stopped and the old one serves on.
    """
    config = config or ServingConfig()
    say = progress or (lambda message: None)
    endpoint = EmbeddedEndpoint(home, config, progress)
    with endpoint.locked():
        endpoint.check_ports()
        say("verifying the model version's files")
        version = endpoint.install(version_dir)
        before = endpoint.state()
        golden = version.golden()
        reused = before.current == version.version and endpoint.status()["serving"]
        checks: list[Check] = []
        try:
            server = endpoint.start(version.version)
            say(f"replaying {len(golden)} golden requests on the version's own server")
            checks += _replay("own server", server.grpc_url, golden, config, "grpc")
            require(GATE, checks)
            endpoint.point_to(version.version)
            say("replaying them through the gateway")
            for protocol in ("grpc", "http"):
                checks += _replay(f"gateway, {protocol}", endpoint.url, golden, config, protocol)
            require(GATE, checks)
        except BaseException:
            _undo(endpoint, version.version, before)
            raise
        endpoint.retire()
        return {
            "version": version.version,
            "reused": reused,
            "previous": endpoint.state().previous,
            "url": f"http://{endpoint.url}",
            "grpc_url": endpoint.url,
            "rows": [check.as_dict() for check in checks],
        }


def _replay(
    where: str, url: str, golden: list[GoldenRequest], config: ServingConfig, protocol: str
) -> list[Check]:
    requests = [each.model_dump() for each in golden]
    found = parity(golden, triton_answers(url, requests, protocol, config.request_timeout_s))
    overlap, difference = found["min_overlap"], found["max_abs_score_diff"]
    return [
        Check(
            f"{where}: least top-K overlap of {len(golden)} golden requests",
            overlap,
            f">= {config.min_overlap:g}",
            overlap >= config.min_overlap,
        ),
        Check(
            f"{where}: largest score difference",
            difference,
            f"<= {config.max_score_difference:g}",
            difference <= config.max_score_difference,
        ),
    ]


def _undo(endpoint: EmbeddedEndpoint, version: str, before: State) -> None:
    """Turn the door back if it was turned, and stop the server if it was started for this."""
    try:
        if endpoint.state().current != before.current:
            endpoint.restore(before)
    finally:
        endpoint.release(version)  # which spares a version that serves or is the way back
