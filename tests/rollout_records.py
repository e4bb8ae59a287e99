"""Rollouts as they are remembered, of every kind, made up for tests of what is shown of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from serving.rollout.record import (
    CheckRow,
    Look,
    Note,
    Outcome,
    Rollout,
    Status,
    StepRecord,
    Verdict,
)
from serving.rollout.settings import RolloutConfig

BEGAN = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def numbers(requests: int, errors: int = 0, p50: float | None = 8.0, p99: float | None = 15.0):
    return {
        "requests": requests, "errors": errors, "p50_ms": p50, "p99_ms": p99, "queue_ms": 0.4,
        "rows": requests, "fallbacks": 0, "short": 0,
    }  # fmt: skip


RANKING = {
    "overlap": 0.61, "rbo": 0.55, "coverage_ratio": 1.02, "popular_stable": 0.31,
    "popular_canary": 0.33, "score_drift": 0.2, "pairs": 100,
}  # fmt: skip
CHECKS = [
    CheckRow(name="error rate", stable=0.001, canary=0.0012, limit="<= stable + 0.5 %",
             outcome="pass", detail="n = 4,000 and 212"),
    CheckRow(name="p99", stable=15.0, canary=16.2, limit="<= 28.8 ms", outcome="pass"),
    CheckRow(name="top-10 overlap", canary=0.61, limit=">= 0.2", outcome="pass"),
]  # fmt: skip
FAILED = CheckRow(
    name="p99", stable=15.0, canary=66.0, limit="<= 28.8 ms", outcome="fail", detail="p = 1e-09"
)


def step(
    percent: int,
    begins: float,
    ends: float | None,
    outcome: Outcome | None = "promote",
    *,
    p99: float = 16.2,
    blind: bool = False,
) -> StepRecord:
    """A step with a look each 2 s; `blind`: none of them could read a number."""
    looks = []
    last = ends if ends is not None else begins + 6
    moment = begins + 2
    while moment <= last:
        sent = round(100 * (moment - begins))
        open_yet: Outcome = "inconclusive" if moment + 2 <= last or outcome is None else outcome
        looks.append(
            Look(
                at=at(moment),
                canary_percent=percent,
                outcome=open_yet,
                reason="metrics cannot be read: <gone>" if blind else "too few requests",
                stable={} if blind else numbers(sent * (100 - percent) // 100),
                canary={} if blind else numbers(sent * percent // 100, p99=p99),
                ranking={} if blind else RANKING,
                own_requests=40,
            )
        )
        moment += 2
    verdict = None
    if outcome is not None:
        checks = [] if blind else [*CHECKS, *([FAILED] if outcome == "roll_back" else [])]
        reason = "p99 is 66.0 ms, limit 28.8" if outcome == "roll_back" else "all checks passed"
        verdict = Verdict(outcome=outcome, reason=reason, checks=checks)
    ended = None if ends is None else at(ends)
    return StepRecord(percent=percent, began=at(begins), ended=ended, looks=looks, verdict=verdict)


def rollout(status: Status, steps: list[StepRecord], **fields: Any) -> Rollout:
    config = RolloutConfig(look_every_s=2).model_dump(mode="json")
    ended = None if status in ("under_way", "held") else at(60)
    notes = [Note(at=at(0), reason="Begun", message="new beside old | <b>")]
    return Rollout(
        **{
            "id": "20261127-120000-new", "target": "embedded", "stable": "old", "canary": "new",
            "status": status, "phase": "step" if ended is None else "done", "began": at(0),
            "ended": ended, "config": config, "steps": steps, "notes": notes,
            "percent": steps[-1].percent if steps else 0,
            "prepared": [{"name": "golden", "value": 1.0, "limit": ">= 1", "passed": True}],
        } | fields
    )  # fmt: skip


def promoted() -> Rollout:
    shares = (5, 25, 50, 100)
    steps = [step(share, 4 + 12 * i, 14 + 12 * i) for i, share in enumerate(shares)]
    return rollout("promoted", steps, percent=100, step=3, reason="every step was good")


def rolled_back() -> Rollout:
    steps = [step(5, 4, 14), step(25, 16, 26, "roll_back", p99=66.0)]
    warning = Note(at=at(26), reason="RolledBack", message="p99 of new", warning=True)
    return rollout(
        "rolled_back", steps, percent=0, step=1, reason="p99 is 66.0 ms, limit 28.8",
        notes=[Note(at=at(0), reason="Begun", message="new | <b>"), warning],
    )  # fmt: skip


def never_ready() -> Rollout:
    return rollout("rolled_back", [], percent=0, reason="new did not get ready", prepared=[])


def held_blind() -> Rollout:
    steps = [step(5, 4, 14), step(25, 16, 30, "hold", blind=True)]
    return rollout("held", steps, step=1, reason="metrics cannot be read")


def taken_over() -> Rollout:
    return rollout("taken_over", [step(5, 4, None, None)], reason="stable is other, not old")


def under_way() -> Rollout:
    return rollout("under_way", [step(5, 4, 14), step(25, 16, None, None)], step=1)


ALL = [promoted, rolled_back, never_ready, held_blind, taken_over, under_way]
