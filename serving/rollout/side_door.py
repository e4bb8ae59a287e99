"""A transformer's side door, as a rollout uses it: whichever way its JSON travels there and back.

What is asked here is no client's request: it is not counted among theirs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from recommender.errors import Check, require
from recommender.schema import MASKED_SCORE
from recommender.string_graphs import HISTORY_TIMES
from serving.rollout.checks import GATE, NOBODY, compare, features_read
from serving.rollout.evidence import Pair, Ranked, Request
from serving.rollout.expected import Expected
from serving.triton.repository import ENSEMBLE
from serving.version import GoldenAnswer, GoldenRequest

# (method, path, JSON or None) to the JSON that comes back; raises KuberecError or OSError.
Call = Callable[[str, str, Any], Any]


class Answer(NamedTuple):
    """What the model answered to one row."""

    ranked: Ranked
    feature_status: str | None


def ask(call: Call, request: Request) -> Answer:
    """One request, as a REST client sends it.

    Raises:
        what `call` does; ValueError: the answer is none of a `recommend` model.
    """
    return _read(call("POST", f"/v2/models/{ENSEMBLE}/infer", _body(request)))


def sample(call: Call, limit: int) -> list[Request]:
    """What clients asked this transformer of late: up to `limit` at random.

    Raises:
        what `call` does; ValueError: it is not a list of requests.
    """
    answer = call("GET", f"/requests?limit={limit}", None)
    try:
        return [
            Request(
                "live",
                user_id=each["user_id"],
                history=each["history"],
                exclude=tuple(each["exclude"]),
                k=each["k"],
                history_times=tuple(each.get(HISTORY_TIMES) or ()),
            )
            for each in answer["requests"]
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(f"/requests answers {str(answer)[:200]!r}") from error


def pair(request: Request, stable: Ranked | None, canary: Ranked | None) -> Pair:
    """Both answers to one request, None where one was an error."""
    longest = max(len(each.item_ids) if each else 0 for each in (stable, canary))
    cold = request.history is not None and not any(request.history)
    return Pair(request.source, request.k or longest, stable, canary, cold)


def check_golden(where: str, call: Call, expected: Expected) -> list[Check]:
    """A version's golden requests at its own side door, and a user: before any client asks it.

    Raises:
        GateFailed: an answer is off its limit. What `call` raises; ValueError.
    """
    found = []
    for each in expected.golden:
        request = Request(
            "golden", history=each.history, exclude=each.exclude, history_times=each.history_times
        )
        ranked = ask(call, request).ranked
        found.append(GoldenAnswer(item_ids=list(ranked.item_ids), scores=list(ranked.scores)))
    kept = [_without_padding(each) for each in expected.golden]
    checks = compare(where, expected._replace(golden=kept), found)
    require(GATE, checks)
    return checks


def check_features(where: str, call: Call) -> Check:
    """`checks.features_read` at a side door.

    Raises:
        what `call` does; ValueError.
    """
    request = Request("golden", user_id=NOBODY)
    return features_read(where, lambda: ask(call, request).feature_status or "none")


def _body(request: Request) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = []
    if request.user_id is not None:
        inputs.append(_ids("user_id", [request.user_id]))
    if request.history is not None:
        inputs.append(_ids("history", request.history))
    if request.exclude:
        inputs.append(_ids("exclude", request.exclude))
    if request.history_times:
        times = list(request.history_times)
        shape = [1, len(times)]
        inputs.append({"name": HISTORY_TIMES, "datatype": "INT64", "shape": shape, "data": times})
    if request.k is not None:
        inputs.append({"name": "k", "datatype": "INT64", "shape": [1], "data": [request.k]})
    return {"inputs": inputs}


def _ids(name: str, ids: Sequence[str]) -> dict[str, Any]:
    data = list(ids) or [""]  # padding, which servers skip
    return {"name": name, "datatype": "BYTES", "shape": [1, len(data)], "data": data}


def _read(answer: Any) -> Answer:
    try:
        outputs = {each["name"]: each["data"] for each in answer["outputs"]}
        ids, scores = outputs["item_ids"], outputs["scores"]
        kept = [
            (str(item), float(score))
            for item, score in zip(ids, scores, strict=True)
            if item and score > MASKED_SCORE
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an inference answers {str(answer)[:200]!r}") from error
    status = outputs.get("feature_status")
    ranked = Ranked(tuple(item for item, _ in kept), tuple(score for _, score in kept))
    return Answer(ranked, str(status[0]) if status else None)


def _without_padding(golden: GoldenRequest) -> GoldenRequest:
    kept = [
        (item, score)
        for item, score in zip(golden.item_ids, golden.scores, strict=True)
        if item and score > MASKED_SCORE
    ]
    return golden.model_copy(
        update={"item_ids": [item for item, _ in kept], "scores": [score for _, score in kept]}
    )
