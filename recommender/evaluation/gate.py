"""The gate: better than the baselines, not worse than the champion, sound in its behaviour."""

from collections.abc import Mapping
from typing import Any

from recommender.errors import Check
from recommender.settings import EvaluationConfig


def gate(result: Mapping[str, Any], config: EvaluationConfig) -> list[Check]:
    """All checks of an evaluation.

    Args:
        result: what `evaluate` measured: "test", and where they were measured "champion", "slices"
            and "behaviour".
    """
    checks = _floors(result["test"], config)
    if result.get("champion"):
        checks.append(_overall(result["test"]["model"]["ndcg@10"], result["champion"], config))
        checks.extend(_slices(result["slices"], result["champion"]["version"], config))
    return [*checks, *_behaviour(result.get("behaviour") or {}, config)]


def _floors(test: Mapping[str, Any], config: EvaluationConfig) -> list[Check]:
    """The margin over the best of the gate's baselines, and the absolute floors."""
    best = max(config.baselines, key=lambda name: test[name]["ndcg@10"])
    limit = test[best]["ndcg@10"] * (1 + config.min_ndcg_margin)
    model = test["model"]
    limits = [
        (f"test NDCG@10, {config.min_ndcg_margin:.0%} above {best}", "ndcg@10", limit),
        ("test NDCG@10", "ndcg@10", config.min_ndcg),
        ("test HR@10", "hr@10", config.min_hr),
    ]
    return [
        Check(name, model[metric], f">= {floor:.4f}", model[metric] >= floor)
        for name, metric, floor in limits
    ]


def _overall(ndcg: float, champion: Mapping[str, Any], config: EvaluationConfig) -> Check:
    name = f"test NDCG@10 against champion {champion['version']}"
    return _check(
        name, ndcg, champion["ndcg@10"], champion["difference_interval"], config.max_champion_loss
    )


def _slices(slices: list[Mapping[str, Any]], version: str, config: EvaluationConfig) -> list[Check]:
    """A check for each slice that got worse, or one that says that none did."""
    guarded = [row for row in slices if row["simultaneous_interval"]]
    checks = [
        _check(
            f"test NDCG@10 of {row['by']} '{row['slice']}' ({row['users']:,} users) against "
            f"champion {version}",
            row["ndcg@10"],
            row["champion_ndcg@10"],
            row["simultaneous_interval"],
            config.max_slice_loss,
        )
        for row in guarded
    ]
    worse = [check for check in checks if not check.passed]
    if worse or not guarded:
        return worse
    name = f"slices worse than champion {version}, of {len(guarded)} with enough users"
    limit = f"0 that lose more than {config.max_slice_loss:.0%} beyond chance"
    return [Check(name, 0, limit, True)]


def _check(
    name: str, ndcg: float, champion: float, difference: list[float], max_loss: float
) -> Check:
    """Fails if the loss is more than is allowed and chance, by the interval, is ruled out."""
    floor = champion * (1 - max_loss)
    low, high = difference
    limit = (
        f">= {floor:.4f}, the champion's {champion:.4f} less {max_loss:.0%}, or a difference that "
        f"may be chance: here {low:+.4f} to {high:+.4f}"
    )
    return Check(name, ndcg, limit, ndcg >= floor or high >= 0)


def _behaviour(measured: Mapping[str, Any], config: EvaluationConfig) -> list[Check]:
    asked = config.behaviour
    at_most = [
        ("reversed_overlap", "order matters: overlap with reversed", asked.max_reversed_overlap),
        ("popularity_ratio", "popularity of shown over chosen items", asked.max_popularity_ratio),
    ]
    at_least = [
        ("repeat_overlap", "overlap after a repeated click", asked.min_repeat_overlap),
        ("text_agreement", "similar texts, similar vectors", asked.min_text_agreement),
    ]
    checks = []
    for key, name, limit in at_most:
        if measured.get(key) is not None:
            value = measured[key]
            checks.append(Check(f"behaviour: {name}", value, f"<= {limit:g}", value <= limit))
    for key, name, limit in at_least:
        if measured.get(key) is not None:
            value = measured[key]
            checks.append(Check(f"behaviour: {name}", value, f">= {limit:g}", value >= limit))
    return checks
