"""How a rollout ended, in words: for an error, a progress line, a page's head."""

from typing import Any

from recommender.errors import Check, KuberecError
from serving.rollout.record import CheckRow, Rollout


class RolloutStopped(KuberecError):
    """A rollout that did not end with a promotion; `rollout` is all of it."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        super().__init__("\n".join([headline(rollout), *_checks(rollout)]))


def headline(rollout: Rollout) -> str:
    """How it ended, in a sentence or two."""
    canary, stable = rollout.canary, rollout.stable
    share = f"at {rollout.steps[-1].percent} %" if rollout.steps else "before its first request"
    return {
        "promoted": f"{canary} was promoted: {rollout.reason}",
        "rolled_back": (
            f"{canary} was rolled back {share}, {stable} serves alone: {rollout.reason}"
        ),
        "held": (
            f"{canary} is held {share} beside {stable}: {rollout.reason}\n"
            "run it again to go on watching, or decide: kuberec rollout promote | abort"
        ),
        "taken_over": f"{canary} was left as it is: {rollout.reason}",
        "under_way": f"{canary} is under way {share} beside {stable}",
    }[rollout.status]


def _checks(rollout: Rollout) -> list[str]:
    verdict = rollout.steps[-1].verdict if rollout.steps else None
    rows: list[CheckRow] = verdict.checks if verdict else []
    lines = []
    for row in rows:
        mark = "ok" if row.outcome == "pass" else row.outcome.upper()
        both = f"stable {_short(row.stable)}, canary {_short(row.canary)}"
        lines.append(f"  {mark:<6} {row.name}: {both}  (limit {row.limit}) {row.detail}".rstrip())
    return lines


def _short(value: float | str | None) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def rows(rollout: Rollout) -> list[dict[str, Any]]:
    """{name, value, limit, passed} of every check before the first step, and of the last verdict.

    One that a canary could not be told to keep has not passed.
    """
    verdict = rollout.steps[-1].verdict if rollout.steps else None
    judged = [
        Check(
            row.name,
            "unknown" if row.canary is None else row.canary,
            row.limit,
            row.outcome == "pass",
        ).as_dict()
        for row in (verdict.checks if verdict else [])
    ]
    return [*rollout.prepared, *judged]
