"""The card's part on quality, from the evaluation's report; each of its parts may be missing."""

from collections.abc import Mapping
from typing import Any

QUALITY = ("ndcg@10", "hr@10", "ndcg@20", "hr@20", "mrr")
MEANING = {
    "coverage@10": "Coverage: share of the items that are in anyone's first ten places.",
    "novelty@10": "Novelty: mean -log2 of the share of users who know an item that is shown, bits.",
    "popularity_bias": "Popularity bias: mean popularity percentile of what is shown over that of "
    "what was chosen; above 1 the popular is overdone.",
}
BEYOND = tuple(MEANING)
BEHAVIOUR = "behaviour: "  # how the gate calls its checks of behaviour
FEW_USERS = 100  # a slice of fewer says little: half a 95 % interval of HR@10 is about 0.06 there


def measured_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation as the card shows it.

    Returns:
        protocol, users, items, intervals {metric: [low, high]} and unmasked of the model, rankers
        (the model first, then baselines from the best to the worst by NDCG@10), champion, slices
        (`sorted_slices`), calibration, ties, behaviour and gate (checks), behaviour_users. What the
        evaluation did not measure is None or empty.
    """
    test = evaluation["test"]
    checks = evaluation.get("gate") or []
    names = sorted(test, key=lambda name: (name != "model", -test[name]["ndcg@10"]))
    return {
        "protocol": evaluation.get("protocol"),
        "users": evaluation.get("users"),
        "items": evaluation.get("items"),
        "intervals": evaluation.get("intervals") or {},
        "unmasked": evaluation.get("unmasked"),
        "rankers": [{"ranker": name, **test[name]} for name in names],
        "champion": evaluation.get("champion"),
        "slices": sorted_slices(evaluation.get("slices") or []),
        "calibration": evaluation.get("calibration"),
        "ties": evaluation.get("ties"),
        "behaviour_users": (evaluation.get("behaviour") or {}).get("users"),
        "behaviour": [
            {**check, "name": check["name"].removeprefix(BEHAVIOUR)}
            for check in checks
            if check["name"].startswith(BEHAVIOUR)
        ],
        "gate": [check for check in checks if not check["name"].startswith(BEHAVIOUR)],
    }


def sorted_slices(slices: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Slices with a `note`: first those where the champion is better, then by NDCG@10, worst first.

    A note "worse than the champion" means that the whole interval of the difference is below 0.
    Where the evaluation has `simultaneous_interval`, it is that one, which allows for the number of
    slices that are looked into; without an interval nothing is claimed.
    """
    noted = [{**each, "note": ", ".join(_notes(each))} for each in slices]
    return sorted(noted, key=lambda each: (not is_worse(each), each["ndcg@10"]))


def is_worse(each: Mapping[str, Any]) -> bool:
    """Whether the champion is better on the slice, beyond the noise."""
    found = _beyond_chance(each)
    return found is not None and found[1] < 0


def below_baseline(each: Mapping[str, Any]) -> bool:
    """Whether the best baseline is above the slice's whole interval."""
    interval, baseline = each.get("interval"), each.get("baseline_ndcg@10")
    return interval is not None and baseline is not None and baseline > interval[1]


def _beyond_chance(each: Mapping[str, Any]) -> list[float] | None:
    found: list[float] | None = each.get("simultaneous_interval", each.get("difference_interval"))
    return found


def _notes(each: Mapping[str, Any]) -> list[str]:
    found = _beyond_chance(each)
    said = ["worse than the champion"] if is_worse(each) else []
    said += ["better than the champion"] if found is not None and found[0] > 0 else []
    said += ["below the best baseline"] if below_baseline(each) else []
    said += ["few users"] if each["users"] < FEW_USERS else []
    return said
