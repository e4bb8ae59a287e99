"""Rollouts that take seconds: for tiny versions, on a machine that has other things to do."""

from typing import Any

from serving.rollout.settings import RolloutConfig

# Of versions with other catalogues, whose lists have nothing in common.
ANY_RANKING = {
    "min_overlap": 0,
    "min_rbo": 0,
    "min_coverage_ratio": 0,
    "max_popular_increase": 1,
    "max_score_drift": 1,
    "min_pairs": 1,
}


def quick_rollout(*steps: int, bake_s: float = 0.5, **changes: Any) -> RolloutConfig:
    """Steps (by default 50 and 100 %) of `bake_s`; its own requests are enough to be judged by."""
    quick = {
        "steps": [{"percent": percent, "bake_s": bake_s} for percent in steps or (50, 100)],
        "look_every_s": 0.25,
        "max_wait_s": 20,
        "min_requests": 20,
        "own_requests_per_s": 200,
        "max_latency_ratio": 5,
        "latency_slack_ms": 200,
        "settle_s": 0,
        "stable_timeout_s": 30,
        "ranking": ANY_RANKING,
    }
    return RolloutConfig.model_validate(quick | changes)
