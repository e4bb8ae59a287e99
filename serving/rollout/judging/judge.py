"""One look at a canary beside stable: every number against its limit, and what follows from it.

A limit is broken where a one-sided test says so, at a level that makes `config.alpha` the chance,
over the whole rollout, that a canary which is no worse is rolled back: alpha by the number of looks
and of tests in each (Bonferroni; looks at growing samples depend on each other, so that the true
chance is lower).
"""

from collections.abc import Sequence
from typing import NamedTuple

from serving.rollout.evidence import Pair, Window
from serving.rollout.judging.illness import illness
from serving.rollout.judging.live_checks import live_checks
from serving.rollout.judging.pair_checks import compared, pair_checks
from serving.rollout.judging.ranking import answered
from serving.rollout.record import CheckRow, Verdict
from serving.rollout.settings import RolloutConfig

TESTS = 12  # in one look: those of live_checks and pair_checks that can fail by chance


class Round(NamedTuple):
    """All that is known at one look of a step.

    Attributes:
        percent: share of the requests that the canary has.
        stable, canary: traffic since the step began; None: could not be read.
        problem: why not; "".
        pairs: requests that both were asked in this step so far.
        pairs_problem: why live requests could not be sampled; "" if they were.
        stable_before: stable's traffic in the latest step in which it had some: what the canary is
            compared with at 100 %.
        load_then: share of the requests that stable had in that step, 0..1.
    """

    percent: int
    stable: Window | None
    canary: Window | None
    problem: str
    pairs: Sequence[Pair]
    pairs_problem: str = ""
    stable_before: Window | None = None
    load_then: float = 1.0


class Reference(NamedTuple):
    """What the canary's traffic is compared with.

    Attributes:
        note: what must be said about it.
        load: requests of the canary's for each that stable had.
    """

    window: Window | None
    note: str = ""
    load: float = 1.0


def judge(round: Round, config: RolloutConfig, looks: float) -> Verdict:
    """What the numbers say; knows no time.

    Args:
        looks: by what alpha is divided for this one (spending.py).

    Returns:
        roll_back: the canary is significantly beyond a limit. It may be judged by the requests
            that both were asked even where metrics are missing.
        hold: stable is ill too, and the canary not both better and healthy.
        inconclusive: numbers are missing or too few, or a check is unsure.
        promote: every check passes.
    """
    level = config.alpha / max(looks, 1) / TESTS
    reference = _reference(round, config)
    stable = reference.window
    checks: list[CheckRow] = []
    few = "" if round.canary is None else _few_requests(round, config)
    if round.canary is not None and (stable is not None or round.percent == 100) and not few:
        checks += live_checks(stable, round.canary, config, level, reference.note, reference.load)
    checks += pair_checks(round.pairs, config, level)
    failed = [check for check in checks if check.outcome == "fail"]
    if failed:
        return Verdict(outcome="roll_back", reason=_sentence(failed), checks=checks)
    ill = "" if stable is None or round.canary is None else illness(stable, round.canary, config)
    if ill:
        return Verdict(outcome="hold", reason=ill, checks=checks)
    open_ = _missing(round, stable) or few or _few_pairs(round, config)
    if open_:
        return Verdict(outcome="inconclusive", reason=open_, checks=checks)
    unsure = [check for check in checks if check.outcome == "unsure"]
    if unsure:
        reason = f"not enough to tell: {_sentence(unsure)}"
        return Verdict(outcome="inconclusive", reason=reason, checks=checks)
    return Verdict(
        outcome="promote", reason=f"all {len(checks)} checks are within their limits", checks=checks
    )


def _reference(round: Round, config: RolloutConfig) -> Reference:
    """Stable's traffic of the same time; at 100 % of the step before.

    Then stable may have some requests yet: those that were under way, or went in the canary's
    place. They are too few to compare with.
    """
    stable = round.stable
    if round.percent < 100 or (stable is not None and stable.requests >= config.min_requests):
        return Reference(stable)
    if round.stable_before is None:
        return Reference(None, "stable had no requests in this rollout")
    load = 1 / max(round.load_then, 0.01)
    note = f"stable's numbers are of the step before, when it had {round.load_then:.0%} of the load"
    return Reference(round.stable_before, note, load)


def _missing(round: Round, stable: Window | None) -> str:
    if round.canary is not None and (stable is not None or round.percent == 100):
        return "" if round.problem == "" else f"metrics cannot be read: {round.problem}"
    side = "the canary's" if round.canary is None else "stable's"
    return f"metrics cannot be read: {round.problem or f'{side} numbers are missing'}"


def _few_requests(round: Round, config: RolloutConfig) -> str:
    sides = [("the canary", round.canary)]
    if round.percent < 100:
        sides.append(("stable", round.stable))
    few = [
        f"{name} answered {side.requests:.0f}"
        for name, side in sides
        if side is not None and side.requests < config.min_requests
    ]
    if not few:
        return ""
    return f"too few requests: {' and '.join(few)}; {config.min_requests} are needed"


def _few_pairs(round: Round, config: RolloutConfig) -> str:
    needed, both = config.ranking.min_pairs, compared(round.pairs)
    telling = len(answered(round.pairs, config.ranking))
    if telling >= needed or (len(both) >= needed and not telling):
        return ""  # in the latter case a check is unsure, and says why
    why = f" ({round.pairs_problem})" if round.pairs_problem else ""
    return f"too few requests to compare both versions by: {telling}; {needed} are needed{why}"


def _sentence(checks: Sequence[CheckRow]) -> str:
    said = []
    for check in checks:
        beside = "" if check.stable is None else f"stable {_number(check.stable)}, "
        said.append(
            f"{check.name} {_number(check.canary)} ({beside}limit {check.limit}; {check.detail})"
        )
    return "; ".join(said)


def _number(value: float | str | None) -> str:
    return "unknown" if value is None else value if isinstance(value, str) else f"{value:g}"
