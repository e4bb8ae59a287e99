"""The card's limits, each a sentence that follows from what was measured or set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recommender.settings import ModelConfig
from reporting.card.measured import FEW_USERS, below_baseline, is_worse
from reporting.ledger import slices_that_lose
from serving.settings import ServingConfig, ViewFreshness


def limits_of(
    measured: Mapping[str, Any],
    data: Mapping[str, Any],
    shape: ModelConfig,
    serving: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
) -> list[str]:
    """Where the model is weak or was not looked at.

    Args:
        measured, data: of measured_of and data_of.
        serving: the run's serving section.
        ledger: rows of the compression, the first the full model, the last what serves.
    """
    return [
        *_of_slices(measured),
        *_of_lists(measured),
        *_of_data(data, shape),
        *_of_serving(ServingConfig.model_validate(serving), ledger),
        "Measured on logged events: whether people like what they are shown, or act otherwise, "
        "takes an experiment with them.",
    ]


def _of_slices(measured: Mapping[str, Any]) -> Iterator[str]:
    model, slices = measured["rankers"][0], measured["slices"]
    best = max(measured["rankers"][1:], key=lambda row: row["ndcg@10"], default=model)
    if best["ndcg@10"] > model["ndcg@10"]:
        yield (
            f"Over all users the baseline {best['ranker']} is better: NDCG@10 "
            f"{best['ndcg@10']:.4f}, the model's is {model['ndcg@10']:.4f}."
        )
    if not slices:
        yield "No slices of users or items were measured: weak spots are not known."
    if worse := [each for each in slices if is_worse(each)]:
        yield f"Worse than the champion, beyond the noise: {_listed(worse)}."
    if behind := [each for each in slices if below_baseline(each)]:
        yield f"Below the best baseline, beyond the noise: {_listed(behind)}."
    low = [each for each in slices if (each.get("interval") or [0, 1])[1] < model["ndcg@10"]]
    if low:
        yield (
            f"Clearly below the model's NDCG@10 over all users ({model['ndcg@10']:.4f}): "
            f"{_listed(low)}."
        )
    if few := [each for each in slices if each["users"] < FEW_USERS]:
        names = ", ".join(f"{_name(each)} ({each['users']:,})" for each in few)
        yield f"Slices of fewer than {FEW_USERS} users, whose figures say little: {names}."
    if measured["champion"] is None:
        yield "Not compared with a version before it: there was no champion."


def _of_lists(measured: Mapping[str, Any]) -> Iterator[str]:
    model = measured["rankers"][0]
    if (covered := model.get("coverage@10")) is not None:
        yield f"{1 - covered:.0%} of the items are in nobody's first ten places on the test split."
    calibration = measured["calibration"]
    if calibration is None:
        yield "Scores order items; how far they are probabilities was not measured."
    else:
        yield (
            "Scores are no probabilities: as a softmax they are off by "
            f"{calibration['ece']:.3f} on average (expected calibration error)."
        )


def _of_data(data: Mapping[str, Any], shape: ModelConfig) -> Iterator[str]:
    every, core = data["all"], data["core"]
    if every["items"] is not None and every["items"] > core["items"]:
        yield (
            f"{every['items'] - core['items']:,} of {every['items']:,} items were not trained on "
            f"({data['k_core']}-core): they are not recommended until kuberec items refresh "
            "gives them a row by their text."
        )
    if every["users"] > core["users"]:
        yield (
            f"{every['users'] - core['users']:,} of {every['users']:,} users have too few events "
            "and are in no figure."
        )
    yield "Users without a known item get what is popular, the same for all of them."
    if data["period"]:
        yield f"The newest event is of {data['period'][1]}: later tastes and items are not in it."
    if (most := data["history_length"]) > shape.max_length:
        yield (
            f"Of a history of up to {most:,} events the model reads the latest {shape.max_length}."
        )


def _of_serving(serving: ServingConfig, ledger: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    served = ledger[-1]
    if len(ledger) > 1:
        yield (
            "Quality and slices by the evaluation are the full model's; the compressed one that "
            f"serves has NDCG@10 {served['ndcg@10']:.4f} ({ledger[0]['ndcg@10']:.4f} before)."
        )
    if losing := slices_that_lose(served):
        yield f"Compression costs these slices quality, beyond the noise: {', '.join(losing)}."
    freshness = serving.transformer.freshness.get("user_history", ViewFreshness())
    if freshness.max_age_s is None:
        yield "A stored history of any age is used: no max_age_s is set."
        return
    done = {
        "serve": "used, and counted",
        "flag": "used, and the answer says so",
        "fallback": "not used: the user gets popular items",
        "reject": "refused, by an error",
    }
    yield (
        f"A stored history older than {freshness.max_age_s:g} s is {done[freshness.policy]} "
        f"(policy {freshness.policy})."
    )


def _listed(slices: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{_name(each)} ({each['ndcg@10']:.4f})" for each in slices)


def _name(each: Mapping[str, Any]) -> str:
    return f"{each['by']}: {each['slice']}"
