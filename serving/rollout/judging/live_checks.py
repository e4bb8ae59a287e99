"""Checks on live traffic: both versions' counts over the same time."""

import math
from typing import Literal

from serving.rollout.evidence import Window
from serving.rollout.judging.statistics import at_least, exceedances, excess
from serving.rollout.record import CheckRow
from serving.rollout.settings import RolloutConfig

Outcome = Literal["pass", "fail", "unsure"]


def live_checks(
    stable: Window | None,
    canary: Window,
    config: RolloutConfig,
    level: float,
    note: str = "",
    load: float = 1.0,
) -> list[CheckRow]:
    """Errors, latency, waiting, fallbacks and short answers.

    Args:
        stable: None where it had no requests at any time of the rollout: errors and the like are
            then held to the limits alone, and durations are not compared.
        level: of each test.
        note: goes into every detail.
        load: requests of the canary's for each that stable had when its durations were measured:
            with twice as many to answer, twice the time is no worse.
    """
    rows = [
        _errors(stable, canary, config, level),
        _latency(0.5, stable, canary, config, level, load),
        _latency(0.99, stable, canary, config, level, load),
        _queue(stable, canary, config),
        _rows("answers without features", "fallbacks", stable, canary, config, level),
        _rows("short or empty answers", "short", stable, canary, config, level),
    ]
    if note:
        rows = [row.model_copy(update={"detail": f"{row.detail}; {note}"}) for row in rows]
    return rows


def share_check(
    name: str,
    canary: tuple[float, float],
    stable: tuple[float, float] | None,
    margin: float,
    level: float,
    what: str,
    weight: float = 1.0,
) -> CheckRow:
    """Share of events, with a margin above stable's.

    Args:
        canary, stable: events, and of how many.
        what: is counted, for the detail.
        weight: independent trials in one that is counted, 0..1.
    """
    share = canary[0] / canary[1] if canary[1] > 0 else 0.0
    of = f"{canary[0]:,.0f} of {canary[1]:,.0f} {what}"
    if stable is None:
        other, p_value = 0.0, at_least(weight * canary[0], weight * canary[1], margin)
    else:
        other = stable[0] / stable[1] if stable[1] > 0 else 0.0
        of += f", stable {stable[0]:,.0f} of {stable[1]:,.0f}"
        counted = [weight * number for number in (*canary, *stable)]
        p_value = excess(counted[0], counted[1], counted[2], counted[3], margin)
    outcome: Outcome = (
        "fail" if p_value <= level else "pass" if share - other <= margin + 1e-12 else "unsure"
    )
    return CheckRow(
        name=name,
        stable=None if stable is None else percent(other),
        canary=percent(share),
        limit=f"<= stable + {margin:.2%}",
        outcome=outcome,
        detail=f"{of}, {p_text(p_value, level)}",
    )


def percent(share: float) -> str:
    return f"{share:.2%}"


def p_text(p_value: float, level: float) -> str:
    return f"p = {p_value:.2g} (fails from {level:.2g} down)"


def _errors(stable: Window | None, canary: Window, config: RolloutConfig, level: float) -> CheckRow:
    return share_check(
        "error rate",
        (canary.errors, canary.requests),
        None if stable is None else (stable.errors, stable.requests),
        config.max_error_increase,
        level,
        "requests",
    )


def _rows(
    name: str,
    field: Literal["fallbacks", "short"],
    stable: Window | None,
    canary: Window,
    config: RolloutConfig,
    level: float,
) -> CheckRow:
    """Rows of one request fail together: a request counts once, however many rows it has."""
    rows = canary.rows + (stable.rows if stable is not None else 0.0)
    requests = canary.requests + (stable.requests if stable is not None else 0.0)
    return share_check(
        name,
        (getattr(canary, field), canary.rows),
        None if stable is None else (getattr(stable, field), stable.rows),
        config.max_fallback_increase if field == "fallbacks" else config.max_short_increase,
        level,
        "rows",
        min(requests / rows, 1.0) if rows > 0 else 1.0,
    )


def _latency(
    q: float,
    stable: Window | None,
    canary: Window,
    config: RolloutConfig,
    level: float,
    load: float,
) -> CheckRow:
    """A quantile against stable's, times max_latency_ratio, and latency_slack_ms more.

    That the canary's q-quantile is beyond L is the same as that more than 1 - q of its requests
    take longer than L. These are counted, and a count has a binomial distribution whatever that of
    the durations is: a sign test, free of their distribution. L rests on stable's quantile, an
    estimate itself. Instead of moving L to an upper confidence bound, which p99 does not have below
    a thousand requests, the share 1 - q gets the distribution that it has beyond an estimated
    quantile, which makes the count Beta-binomial (statistics.exceedances).
    """
    name = f"p{q * 100:g} latency in ms"
    found, expected = canary.latency.quantile(q), None
    if stable is not None:
        expected = stable.latency.quantile(q)
    if found is None or stable is None or expected is None:
        compared = stable is not None
        return CheckRow(
            name=name,
            stable=ms(expected),
            canary=ms(found),
            limit=f"<= {config.max_latency_ratio:g} × stable + {config.latency_slack_ms:g}",
            outcome="unsure" if compared or found is None else "pass",
            detail="no durations were counted" if compared or found is None else "not compared",
        )
    limit = expected * config.max_latency_ratio * load + config.latency_slack_ms / 1000
    # Within the bucket of the limit nobody knows: what may be below it counts as if it were.
    total, beyond = canary.latency.total, canary.latency.surely_beyond(limit)
    p_value = exceedances(beyond, total, stable.latency.beyond(expected), stable.latency.total)
    outcome: Outcome = "fail" if p_value <= level else "pass" if found <= limit else "unsure"
    return CheckRow(
        name=name,
        stable=ms(expected),
        canary=ms(found),
        limit=f"<= {1000 * limit:.4g}",
        outcome=outcome,
        detail=f"{beyond:,.0f} of {total:,.0f} requests beyond the limit, {1 - q:.0%} may be; "
        f"stable's of {stable.latency.total:,.0f}; {p_text(p_value, level)}",
    )


def _queue(stable: Window | None, canary: Window, config: RolloutConfig) -> CheckRow:
    """The mean wait for Triton. Its spread is not counted, so that it is not tested: beyond the
    limit it keeps from promoting. Where it costs clients time, latency is what fails."""
    limit = config.max_queue_increase_ms
    common = {"name": "wait for Triton in ms", "limit": f"<= stable + {limit:g}"}
    other = None if stable is None else stable.queue_s
    if canary.queue_s is None or (stable is not None and other is None):
        return CheckRow(
            **common,
            stable=ms(other),
            canary=ms(canary.queue_s),
            outcome="unsure",
            detail="no request is known to have reached Triton",
        )
    within = 1000 * (canary.queue_s - (other or 0.0)) <= limit
    return CheckRow(
        **common,
        stable=ms(other),
        canary=ms(canary.queue_s),
        outcome="pass" if within else "unsure",
        detail="means, not tested",
    )


def ms(seconds: float | None) -> float | None:
    return None if seconds is None or not math.isfinite(seconds) else round(1000 * seconds, 3)
