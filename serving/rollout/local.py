"""Roll a model version out on this machine: beside the current one, checked, switched, checked."""

from pathlib import Path
from typing import Any

from recommender.errors import Check, require
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.replica import Place, Replica
from serving.embedded.state import State
from serving.rollout.checks import GATE, Door, ask_for_a_user, replay, replay_through_gateway
from serving.settings import ServingConfig, save_settings
from serving.triton.server import Progress
from serving.version import GoldenRequest


def rollout(
    version_dir: Path,
    home: Path,
    config: ServingConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Let a model version serve, or leave everything as it was.

    Installs and starts it beside the current version, replays its golden requests on its own
    Triton and on its transformer, asks that for a user, turns the door, and replays the requests
    through the door. A version that serves already is only checked. The version before keeps
    running for an instant way back. `config` is saved for the commands that come after this.

    Returns:
        {version, reused, previous, url, grpc_url, rows}: rows are {name, value, limit, passed}.

    Raises:
        GateFailed: an answer is off its limit, or made without features; VersionError: the files
        are not as exported; TritonFailed, TransformerFailed, GatewayFailed, PortTaken: something
        did not start. In every case the new version is stopped and the old one serves on.
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
            replica = endpoint.start(version.version)
            say(f"replaying {len(golden)} golden requests on the version's own servers")
            checks += _replay_on(replica, golden, config)
            has_store = Place(endpoint.home.root, version.version).feature_store.exists()
            own = Door(replica.transformer.grpc_url)
            checks.append(ask_for_a_user("transformer", own, config, has_store))
            require(GATE, checks)
            endpoint.point_to(version.version)
            say("replaying them through the gateway")
            checks += replay_through_gateway(Door(endpoint.url), golden, config, version.version)
            require(GATE, checks)
            # Under the lock: who waits for it to start a dead part again must find these.
            save_settings(home, config)
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


def _replay_on(replica: Replica, golden: list[GoldenRequest], config: ServingConfig) -> list[Check]:
    """On the version's own servers, without the door: answers must be the golden ones."""
    checks: list[Check] = []
    for where, url, protocol in (
        ("own Triton", replica.triton.grpc_url, "grpc"),
        ("transformer, grpc", replica.transformer.grpc_url, "grpc"),
        ("transformer, http", replica.transformer.http_url, "http"),
    ):
        checks += replay(where, Door(url), golden, config, protocol, config.min_overlap)
        require(GATE, checks)  # what comes next would only fail for the same reason
    return checks


def _undo(endpoint: EmbeddedEndpoint, version: str, before: State) -> None:
    """Turn the door back, and stop the server if it was started for this."""
    try:
        endpoint.restore(before)
    finally:
        endpoint.release(version)  # which spares a version that serves or is the way back
