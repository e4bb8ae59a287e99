"""A rollout in words and tables: what its page, its Markdown and the console have in common."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from reporting.card.text import NONE
from serving.rollout.record import CheckRow, Look, Rollout, StepRecord
from serving.rollout.settings import RolloutConfig

LOOK = {
    "promote": "good",
    "hold": "hold",
    "roll_back": "roll back",
    "inconclusive": "not known yet",
}
STEP = {
    "good": "good",
    "bad": "rolled back",
    "held": "held",
    "left": "taken over",
    "interrupted": "interrupted",
    "": "under way",
}
STATUS = {
    "under_way": "under way",
    "held": "held",
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "taken_over": "taken over by an operator",
}


class StepRow(NamedTuple):
    """One step, as a line of a table. `None`: not measured; pairs are stable's and the canary's."""

    number: int  # from 1
    percent: int
    seconds: float | None
    verdict: str  # a key of STEP
    reason: str
    requests: tuple[float | None, float | None]
    error_rate: tuple[float | None, float | None]
    p50_ms: tuple[float | None, float | None]
    p99_ms: tuple[float | None, float | None]
    overlap: float | None
    rbo: float | None
    own_requests: int
    checks: list[CheckRow]


def settings(rollout: Rollout) -> RolloutConfig | None:
    """What it was held to; None if it was begun by another version of kuberec, with other keys."""
    try:
        return RolloutConfig.model_validate(rollout.config)
    except ValidationError:
        return None


def where(rollout: Rollout) -> str:
    """Where one that is under way stands."""
    held_to = settings(rollout)
    total = len(held_to.steps) if held_to else len(rollout.steps)
    return {
        "preparing": "getting it ready",
        "step": f"step {rollout.step + 1} of {total}, {rollout.percent} %",
        "promoting": "making it the stable one",
        "rolling_back": "rolling it back",
        "done": "done",
    }[rollout.phase]


def step_rows(rollout: Rollout) -> list[StepRow]:
    """A row for each step, its numbers those of the last look that could read them.

    A step that a killed process was in and the next one began anew has two.
    """
    rows = []
    held_to = settings(rollout)
    shares = [step.percent for step in held_to.steps] if held_to else []
    for place, step in enumerate(rollout.steps):
        look = last_numbers(step)
        stable, canary = (look.stable, look.canary) if look else ({}, {})
        ranking = next((each.ranking for each in reversed(step.looks) if each.ranking), {})
        outcome, reason = outcome_of(rollout, place)
        rows.append(
            StepRow(
                number=(shares.index(step.percent) if step.percent in shares else place) + 1,
                percent=step.percent,
                seconds=seconds_between(step.began, step.ended),
                verdict=outcome,
                reason=reason,
                requests=(stable.get("requests"), canary.get("requests")),
                error_rate=(error_rate(stable), error_rate(canary)),
                p50_ms=(stable.get("p50_ms"), canary.get("p50_ms")),
                p99_ms=(stable.get("p99_ms"), canary.get("p99_ms")),
                overlap=ranking.get("overlap"),
                rbo=ranking.get("rbo"),
                own_requests=step.looks[-1].own_requests if step.looks else 0,
                checks=step.verdict.checks if step.verdict else [],
            )
        )
    return rows


def without_canary(result: Mapping[str, Any]) -> str:
    """Why there was no canary, in a sentence.

    Args:
        result: of a `rollout` function: version, reused, previous.
    """
    version = result["version"]
    if result["reused"]:
        return f"{version} served already: it was checked, and nothing was changed."
    if previous := result.get("previous"):
        return f"{previous} did not serve when {version} came: there was nothing to compare with."
    return f"No version served before {version}, so there was nothing to compare it with."


def last_numbers(step: StepRecord) -> Look | None:
    """The step's latest look that could read the traffic: its numbers are those of the step."""
    return next((look for look in reversed(step.looks) if look.stable or look.canary), None)


def outcome_of(rollout: Rollout, place: int) -> tuple[str, str]:
    """What became of a step, and why: "good", "bad", "held", "left", "interrupted", "" = goes on.

    The verdict of its last look need not be it: a canary that dies is rolled back without one, and
    an operator needs none.
    """
    step, last = rollout.steps[place], place == len(rollout.steps) - 1
    if last and rollout.status in ("rolled_back", "held", "taken_over"):
        ended = {"rolled_back": "bad", "held": "held", "taken_over": "left"}[rollout.status]
        return ended, rollout.reason
    if step.ended is None:
        said = step.looks[-1].reason if step.looks else "not judged yet"
        return ("", said) if last else ("interrupted", f"begun anew; before that: {said}")
    if step.verdict is not None and step.verdict.outcome == "roll_back":
        return "bad", step.verdict.reason
    return "good", step.verdict.reason if step.verdict else rollout.reason


def error_rate(numbers: Mapping[str, Any]) -> float | None:
    """Share of failed requests; None without any."""
    requests = numbers.get("requests")
    return numbers.get("errors", 0) / requests if requests else None


def seconds_between(began: str, ended: str | None) -> float | None:
    """Of two ISO times; None while it has not ended."""
    if ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def clock(moment: str) -> str:
    """Time of day in UTC, of an ISO time."""
    return f"{datetime.fromisoformat(moment):%H:%M:%S}"


def date(moment: str) -> str:
    """Day and time in UTC, of an ISO time."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S}"


def time(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def number(value: float | str | None) -> str:
    """A check's number: as it is if it is text or whole, else to four digits."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def share(value: float | None) -> str:
    """A rate in percent."""
    return NONE if value is None else f"{100 * value:.2f} %"


def ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
