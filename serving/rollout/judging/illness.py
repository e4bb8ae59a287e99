"""Is stable ill itself? Beside a version that serves badly, a canary proves nothing."""

from serving.rollout.evidence import Window
from serving.rollout.judging.statistics import excess
from serving.rollout.settings import RolloutConfig

# That the canary is better must be clear for it to be promoted beside an ill stable. It is no way
# to a roll-back, so that it needs no share of alpha.
_CLEARLY = 0.001


def illness(stable: Window, canary: Window, config: RolloutConfig) -> str:
    """Why nothing can be said for a canary beside this stable, as a sentence.

    Returns:
        "" where stable is well, or the canary clearly better and well itself.
    """
    if stable.requests < config.min_requests:
        return ""
    kinds = (
        ("requests failed", "errors", "requests", config.max_error_rate),
        ("rows were answered without features", "fallbacks", "rows", config.max_degraded_rate),
        ("rows got fewer items than asked for", "short", "rows", config.max_degraded_rate),
    )
    for what, field, of, limit in kinds:
        if found := _ill_shares(stable, canary, field, of, limit):
            return (
                f"stable is ill itself: {found[0]:.1%} of its {what} ({limit:.1%} or more is ill), "
                f"and the canary is not clearly better with {found[1]:.1%}"
            )
    return _too_slow(stable, canary, config)


def _ill_shares(
    stable: Window, canary: Window, field: str, of: str, limit: float
) -> tuple[float, float] | None:
    """Both versions' shares, if stable is ill by them and the canary not clearly better."""
    events, trials = getattr(stable, field), getattr(stable, of)
    others, tried = getattr(canary, field), getattr(canary, of)
    if trials <= 0 or events / trials < limit:
        return None
    share = others / tried if tried > 0 else 0.0
    if tried > 0 and share < limit and excess(events, trials, others, tried, 0.0) <= _CLEARLY:
        return None
    return events / trials, share


def _too_slow(stable: Window, canary: Window, config: RolloutConfig) -> str:
    limit_ms = config.max_p99_ms
    mine, other = (window.latency.quantile(0.99) for window in (stable, canary))
    if limit_ms is None or mine is None or 1000 * mine < limit_ms:
        return ""
    if other is not None and 1000 * other < limit_ms:
        return ""
    found = "unknown" if other is None else f"{1000 * other:.4g} ms"
    return (
        f"stable is ill itself: its p99 is {1000 * mine:.4g} ms (from {limit_ms:g} ms on it is "
        f"ill), and the canary's is {found}"
    )
