"""Roll a model version out on this machine: beside the current one, checked, switched, checked."""

import time
from pathlib import Path
from typing import Any

from recommender.errors import Check, GateFailed, require
from serving.client import RecommendClient, RecommendError
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.replica import Place, Replica
from serving.embedded.state import State
from serving.parity import parity, triton_answers
from serving.settings import ServingConfig, save_settings
from serving.triton.server import Progress
from serving.version import GoldenRequest

GATE = "rollout"
# Whether there is such a user does not matter: the way to the features and back is what is tried.
_NOBODY = "kuberec-rollout"
_LOOKUPS = 5


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
            checks.append(_ask_for_a_user(replica, config, has_store))
            require(GATE, checks)
            endpoint.point_to(version.version)
            say("replaying them through the gateway")
            checks += _replay_through_gateway(endpoint.url, golden, config, version.version)
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
        found = _compare(url, golden, config, protocol)
        checks += _limits(where, found, config.min_overlap, config)
        require(GATE, checks)  # what comes next would only fail for the same reason
    return checks


def _ask_for_a_user(replica: Replica, config: ServingConfig, has_store: bool) -> Check:
    """Does the version find users' features? Else it would answer everybody alike.

    Without a feature store in the home (`has_store`) any answer will do.
    """
    what, limit = "transformer: a request by user id", "features read" if has_store else "an answer"
    found = "none"
    with RecommendClient(replica.transformer.grpc_url, config.request_timeout_s) as client:
        for attempt in range(_LOOKUPS):
            time.sleep(0.2 * attempt)  # one lookup may be late on a busy machine, not all of them
            try:
                found = client.recommend(user_id=_NOBODY).feature_status or "none"
            except RecommendError as error:
                return Check(what, error.code, limit, False)
            if not (has_store and found.startswith("fallback_")):
                return Check(what, found, limit, True)
    return Check(what, found, limit, False)


def _replay_through_gateway(
    url: str, golden: list[GoldenRequest], config: ServingConfig, version: str
) -> list[Check]:
    """Through the door, amid live requests: does the new version answer, over both protocols?

    Live requests share the ranker's batches, and sums over a batch of another shape are rounded
    differently in the last bits: items of nearly the same score may change places, also at the
    end of the top K. Hence an overlap limit of its own, and the same limit on the scores.
    """
    checks: list[Check] = []
    for protocol in ("grpc", "http"):
        found = _compare(url, golden, config, protocol)
        checks += _limits(f"gateway, {protocol}", found, config.min_gateway_overlap, config)
    with RecommendClient(url, config.request_timeout_s) as client:
        named = client.recommend(history=[]).version or "none"
    checks.append(Check("gateway: version that answers", named, version, named == version))
    return checks


def _limits(
    where: str, found: dict[str, float], min_overlap: float, config: ServingConfig
) -> list[Check]:
    overlap, difference = found["min_overlap"], found["max_abs_score_diff"]
    limit = config.max_score_difference
    return [
        Check(
            f"{where}: least top-K overlap of {found['requests']:.0f} golden requests",
            overlap,
            f">= {min_overlap:g}",
            overlap >= min_overlap,
        ),
        Check(
            f"{where}: largest score difference",
            difference,
            f"<= {limit:g}",
            difference <= limit,
        ),
    ]


def _compare(
    url: str, golden: list[GoldenRequest], config: ServingConfig, protocol: str
) -> dict[str, float]:
    """How far the answers at `url` are from the golden ones; GateFailed if there are none."""
    from tritonclient.utils import InferenceServerException

    requests = [each.model_dump() for each in golden]
    try:
        answers = triton_answers(url, requests, protocol, config.request_timeout_s)
    except (InferenceServerException, OSError) as error:
        check = Check(f"golden requests at {url}, {protocol}", str(error), "an answer", False)
        raise GateFailed(GATE, [check]) from error
    return parity(golden, answers)


def _undo(endpoint: EmbeddedEndpoint, version: str, before: State) -> None:
    """Turn the door back, and stop the server if it was started for this."""
    try:
        endpoint.restore(before)
    finally:
        endpoint.release(version)  # which spares a version that serves or is the way back
