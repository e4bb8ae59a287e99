"""What every rollout asks a new version, wherever it serves: golden requests, a user, its name."""

import time
from collections.abc import Callable, Sequence

from recommender.errors import Check, GateFailed
from serving.client import Door, RecommendError
from serving.parity import parity, triton_answers
from serving.settings import ServingConfig
from serving.version import GoldenRequest

GATE = "rollout"
# Whether there is such a user does not matter: the way to the features and back is what is tried.
NOBODY = "kuberec-rollout"
_LOOKUPS = 5


def replay(
    where: str,
    door: Door,
    golden: Sequence[GoldenRequest],
    config: ServingConfig,
    protocol: str,
    min_overlap: float,
) -> list[Check]:
    """Golden requests at an address: their answers against the golden ones.

    Args:
        where: for the checks' names.
        protocol: "grpc" or "http".

    Raises:
        GateFailed: there was no answer.
    """
    from tritonclient.utils import InferenceServerException

    requests = [each.asked() for each in golden]
    try:
        answers = triton_answers(
            door.address,
            requests,
            protocol,
            config.request_timeout_s,
            host=door.host,
            headers=door.headers,
            tls=door.tls,
        )
    except (InferenceServerException, OSError) as error:
        name = f"golden requests at {door.address}, {protocol}"
        raise GateFailed(GATE, [Check(name, str(error), "an answer", False)]) from error
    return compare(where, golden, answers, config, min_overlap)


def compare(
    where: str,
    golden: Sequence[GoldenRequest],
    answers: Sequence[GoldenRequest],
    config: ServingConfig,
    min_overlap: float,
) -> list[Check]:
    """Answers to golden requests against the golden ones."""
    found, limit = parity(golden, answers), config.max_score_difference
    overlap, difference = found["min_overlap"], found["max_abs_score_diff"]
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


def ask_for_a_user(where: str, door: Door, config: ServingConfig, has_store: bool) -> Check:
    """`features_read` at a door."""
    with door.client(config.request_timeout_s) as client:

        def ask() -> str:
            try:
                return client.recommend(user_id=NOBODY).feature_status or "none"
            except RecommendError as error:
                raise NoAnswer(error.code) from error

        return features_read(where, ask, has_store)


class NoAnswer(Exception):
    """To a request by user id; says why."""


def features_read(where: str, ask: Callable[[], str], has_store: bool = True) -> Check:
    """Does a version find users' features? Else it would answer everybody alike.

    Args:
        ask: for NOBODY; gives the feature_status, or raises NoAnswer.
        has_store: without a feature store any answer will do.
    """
    what, limit = f"{where}: a request by user id", "features read" if has_store else "an answer"
    found = "none"
    for attempt in range(_LOOKUPS):
        time.sleep(0.2 * attempt)  # one lookup may be late on a busy machine, not all of them
        try:
            found = ask()
        except NoAnswer as error:
            return Check(what, str(error), limit, False)
        if not (has_store and found.startswith("fallback_")):
            return Check(what, found, limit, True)
    return Check(what, found, limit, False)


def replay_through_gateway(
    door: Door, golden: Sequence[GoldenRequest], config: ServingConfig, version: str
) -> list[Check]:
    """Through the door, amid live requests: does the new version answer, over both protocols?

    Live requests share the ranker's batches, and sums over a batch of another shape are rounded
    differently in the last bits: items of nearly the same score may change places, also at the
    end of the top K. Hence an overlap limit of its own, and the same limit on the scores.
    """
    checks: list[Check] = []
    for protocol in ("grpc", "http"):
        where = f"gateway, {protocol}"
        checks += replay(where, door, golden, config, protocol, config.min_gateway_overlap)
    with door.client(config.request_timeout_s) as client:
        named = client.recommend(history=[]).version or "none"
    checks.append(Check("gateway: version that answers", named, version, named == version))
    return checks
