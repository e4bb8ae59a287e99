"""Roll a model version out on this machine: at once where nothing serves, else as a canary."""

import contextlib
from pathlib import Path
from typing import Any

from recommender.errors import require
from serving.client import Door
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.state import State
from serving.rollout.checks import GATE, replay_through_gateway
from serving.rollout.embedded.checks import check_replica
from serving.rollout.embedded.target import EmbeddedTarget
from serving.rollout.expected import on_cpu
from serving.rollout.machine import abort, roll_out
from serving.rollout.outcome import RolloutStopped
from serving.rollout.outcome import rows as rows_of
from serving.settings import ServingConfig, save_settings
from serving.triton.server import Progress
from serving.version import load_version


def rollout(
    version_dir: Path,
    home: Path,
    config: ServingConfig | None = None,
    progress: Progress | None = None,
    tell: Progress | None = None,
) -> dict[str, Any]:
    """Let a model version serve, or leave everything as it was.

    Beside another version that serves it is a canary, by the steps of `config.rollout`; where
    nothing runs it serves at once, and one that serves already is only checked. The version before
    keeps running for an instant way back. `config` is saved for the commands that come after this.

    Args:
        progress: called with each line of what is being done.
        tell: called with each step and verdict of a canary; by default `progress` is.

    Returns:
        {version, reused, previous, url, grpc_url, rows, timeline}: rows are {name, value, limit,
        passed}; timeline is record.Rollout as plain data, or None where there was no canary.

    Raises:
        RolloutStopped: the canary did not take over; why, and what serves now.
        RolloutUnderWay: another process rolls out.
        GateFailed: without a canary: an answer is off its limit, or made without features;
        VersionError: the files are not as exported; TritonFailed, TransformerFailed,
        GatewayFailed, PortTaken: something did not start. In every case the new version is stopped
        and the old one serves on.
    """
    config = config or ServingConfig()
    say = progress or (lambda message: None)
    tell = tell or progress
    target = EmbeddedTarget(home, config, progress, version_dir)
    with target.exclusive():
        EmbeddedEndpoint(home, config).check_ports()
        say("verifying the model version's files")
        version = load_version(version_dir)
        last, state = target.load(), target.endpoint.state()
        unfinished = last is not None and last.unfinished
        alone = not _runs(state) or state.current == version.version
        if state.current is None or (alone and not unfinished):
            return serve_directly(version_dir, home, config, progress)
        target.mend()
        if last is not None and unfinished and state.current == version.version != last.canary:
            say(f"{last.canary} is given up first: {version.version} is to serve")
            with contextlib.suppress(RolloutStopped):  # taken over: what serves is as was wanted
                abort(target, tell)
            return serve_directly(version_dir, home, config, progress)
        found = roll_out(
            target, version.version, version.golden(), config.rollout, tell or progress
        )
        return _result(target.endpoint, version.version, False, rows_of(found)) | {
            "timeline": found.model_dump(mode="json")
        }


def serve_directly(
    version_dir: Path, home: Path, config: ServingConfig, progress: Progress | None
) -> dict[str, Any]:
    """As `rollout`, without a canary: for the first version, and for one that serves already.

    Installs and starts it, replays its golden requests on its own Triton and on its transformer,
    asks that for a user, turns the door, and replays the requests through the door.
    """
    say = progress or (lambda message: None)
    endpoint = EmbeddedEndpoint(home, config, progress)
    with endpoint.locked():
        version = endpoint.install(version_dir)
        before = endpoint.state()
        expected = on_cpu(version)
        reused = before.current == version.version and endpoint.status()["serving"]
        try:
            replica = endpoint.start(version.version)
            say(f"replaying {expected} on the version's own servers")
            checks = check_replica(endpoint, replica, expected, config)
            endpoint.point_to(version.version)
            say("replaying them through the gateway")
            checks += replay_through_gateway(Door(endpoint.url), expected, config, version.version)
            require(GATE, checks)
            # Under the lock: who waits for it to start a dead part again must find these.
            save_settings(home, config)
        except BaseException:
            _undo(endpoint, version.version, before)
            raise
        endpoint.retire()
        rows = [check.as_dict() for check in checks]
        return _result(endpoint, version.version, reused, rows) | {"timeline": None}


def _runs(state: State) -> bool:
    """Whether anything of the current version runs: what was stopped on purpose has no canary."""
    replica = None if state.current is None else state.replicas.get(state.current)
    return replica is not None and (replica.triton.alive() or replica.transformer.alive())


def _result(
    endpoint: EmbeddedEndpoint, version: str, reused: bool, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "version": version,
        "reused": reused,
        "previous": endpoint.state().previous,
        "url": f"http://{endpoint.url}",
        "grpc_url": endpoint.url,
        "rows": rows,
    }


def _undo(endpoint: EmbeddedEndpoint, version: str, before: State) -> None:
    """Turn the door back, and stop the server if it was started for this."""
    try:
        endpoint.restore(before)
    finally:
        endpoint.release(version)  # which spares a version that serves or is the way back
