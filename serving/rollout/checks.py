"""What every rollout asks a new version, wherever it serves: golden requests, a user, its name."""

import time
from collections.abc import Callable, Sequence

from recommender.errors import Check, GateFailed
from serving.client import Door, RecommendError
from serving.links import golden_lists, link_checks, link_row
from serving.parity import triton_answers
from serving.rollout.expected import Expected
from serving.settings import ServingConfig
from serving.version import GoldenAnswer, GoldenRequest

GATE = "rollout"
# Whether there is such a user does not matter: the way to the features and back is what is tried.
NOBODY = "kuberec-rollout"
_LOOKUPS = 5
_AMID_OTHERS = 0.99  # most overlap that is asked where live requests share the batches


def replay(
    where: str,
    door: Door,
    expected: Expected,
    config: ServingConfig,
    protocol: str,
    amid_others: bool = False,
) -> list[Check]:
    """Golden requests at an address: their answers against the golden ones.

    Args:
        where: for the checks' names.
        protocol: "grpc" or "http".
        amid_others: as `compare` has it.

    Raises:
        GateFailed: there was no answer.
    """
    from tritonclient.utils import InferenceServerException

    requests = [each.asked() for each in expected.golden]
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
    return compare(where, expected, answers, amid_others)


def compare(
    where: str,
    expected: Expected,
    answers: Sequence[GoldenRequest | GoldenAnswer],
    amid_others: bool = False,
) -> list[Check]:
    """Answers to golden requests against the golden ones, by the limits of their link.

    Args:
        amid_others: live requests share the ranker's batches, and sums over a batch of another
            shape are rounded differently in the last bits, which an 8-bit activation may show as a
            whole step: no overlap above _AMID_OTHERS is asked.
    """
    first, second = golden_lists(expected.golden), golden_lists(answers)
    row = link_row(expected.link, expected.graph, where, first, second)
    limits = getattr(expected.limits.parity, expected.link)
    if amid_others:
        overlaps = ("min_overlap", "min_top_10_overlap")
        update = {key: min(getattr(limits, key), _AMID_OTHERS) for key in overlaps}
        limits = limits.model_copy(update=update)
    parity = expected.limits.parity.model_copy(update={expected.link: limits})
    return link_checks(row, expected.limits.model_copy(update={"parity": parity}))


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
    door: Door, expected: Expected, config: ServingConfig, version: str
) -> list[Check]:
    """Through the door, amid live requests: does the new version answer, over both protocols?"""
    checks: list[Check] = []
    for protocol in ("grpc", "http"):
        where = f"gateway, {protocol}"
        checks += replay(where, door, expected, config, protocol, amid_others=True)
    with door.client(config.request_timeout_s) as client:
        named = client.recommend(history=[]).version or "none"
    checks.append(Check("gateway: version that answers", named, version, named == version))
    return checks
