"""A rollout as it is remembered: its state, and its timeline. One JSON document.

The same document is what a killed rollout goes on from, what `kuberec rollout` shows, and what the
report is made of.
"""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["promote", "hold", "roll_back", "inconclusive"]
# under_way: a process is at it, or was killed. The others are ends; of them `held` can go on.
Status = Literal["under_way", "held", "promoted", "rolled_back", "taken_over"]
# What an operator asks of a rollout.
Wish = Literal["promote", "abort"]
Phase = Literal["preparing", "step", "promoting", "rolling_back", "done"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class CheckRow(_Record):
    """One limit: what was found, and what it means.

    `outcome`: pass; fail = significantly beyond the limit; unsure = not enough to tell.
    """

    name: str
    stable: float | str | None = None
    canary: float | str | None = None
    limit: str
    outcome: Literal["pass", "fail", "unsure"]
    detail: str = ""  # sample sizes, p-value


class Verdict(_Record):
    """What the numbers of one look say. `reason` is a sentence for people."""

    outcome: Outcome
    reason: str
    checks: list[CheckRow] = []


class Look(_Record):
    """One judgement within a step: the numbers that a plot shows.

    `stable`, `canary`: evidence.as_numbers; `ranking`: overlap, rbo, coverage_ratio,
    popular_stable, popular_canary, score_drift, pairs. Empty where they could not be read.
    """

    at: str
    canary_percent: int  # as the gateway has it
    outcome: Outcome
    reason: str
    stable: dict[str, Any] = {}
    canary: dict[str, Any] = {}
    ranking: dict[str, Any] = {}
    own_requests: int = 0  # sent by the rollout itself in this step so far


class StepRecord(_Record):
    """A step of the rollout, with its looks and the verdict that ended it."""

    percent: int
    began: str
    ended: str | None = None
    looks: list[Look] = []
    verdict: Verdict | None = None
    # Stable's traffic as of the last look (evidence.dump): the next step may need it, see judging/.
    stable: dict[str, Any] | None = None


class Note(_Record):
    """Something that happened, in words. `reason` is CamelCase, as of a Kubernetes event."""

    at: str
    reason: str
    message: str
    warning: bool = False


class Rollout(_Record):
    """All of it. Times are ISO 8601 in UTC."""

    id: str
    target: Literal["embedded", "kserve"]
    stable: str  # version that served when it began
    canary: str  # version that is to take over
    status: Status = "under_way"
    phase: Phase = "preparing"
    step: int = 0  # index into the config's steps
    # Share that this rollout last asked the gateway for: another one was set by somebody else.
    percent: int = 0
    confirmed: int = 0  # share that the endpoint had when it was last asked for one
    began: str
    ended: str | None = None
    config: dict[str, Any]
    prepared: list[dict[str, Any]] = []  # checks before the first step, as Check.as_dict
    steps: list[StepRecord] = []
    notes: list[Note] = []
    where: dict[str, Any] = {}  # the target's own: addresses, slots, storage URIs
    reason: str = ""  # of the end: why promoted, rolled back, held

    @property
    def unfinished(self) -> bool:
        return self.status in ("under_way", "held")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
