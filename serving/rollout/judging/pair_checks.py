"""Checks on requests that both versions were asked: golden ones and sampled live ones."""

import math
from collections.abc import Callable, Sequence

from serving.rollout.evidence import Pair, Ranked
from serving.rollout.judging import ranking
from serving.rollout.judging.live_checks import Outcome, p_text, percent
from serving.rollout.judging.ranking import mean
from serving.rollout.judging.statistics import excess, mean_below, mostly_below
from serving.rollout.record import CheckRow
from serving.rollout.settings import RankingLimits, RolloutConfig

# A step has few pairs and gets no more: a difference that chance explains this well is none.
_BY_CHANCE = 0.1


def pair_checks(pairs: Sequence[Pair], config: RolloutConfig, level: float) -> list[CheckRow]:
    """Failed, short and broken answers; from `min_pairs` on also what is recommended."""
    if not pairs:
        return []
    limits = config.ranking
    rows = [
        _discordant(
            "failed answers, asked both",
            pairs,
            lambda answer, other: answer is None and other is not None,
            config.max_error_increase,
            level,
        ),
        _discordant(
            "short or empty answers, asked both",
            compared(pairs),
            lambda answer, other: bool(
                answer and other and len(answer.item_ids) < len(other.item_ids)
            ),
            config.max_short_increase,
            level,
        ),
        _not_finite(pairs),
    ]
    answered = ranking.answered(pairs, limits)
    if len(compared(pairs)) < limits.min_pairs or (0 < len(answered) < limits.min_pairs):
        return rows
    if not answered:
        nothing = CheckRow(
            name=f"top-{limits.top_k} overlap",
            limit=f">= {limits.min_overlap:g}",
            outcome="unsure",
            detail="stable recommended nothing that could be compared",
        )
        return [*rows, nothing]
    return [
        *rows,
        _likeness(
            f"top-{limits.top_k} overlap",
            answered,
            ranking.overlap,
            limits.min_overlap,
            limits,
            level,
        ),
        _likeness("rank-biased overlap", answered, ranking.rbo, limits.min_rbo, limits, level),
        _coverage(answered, limits, level),
        _popularity(pairs, limits, level),
        _drift(answered, limits, level),
    ]


def compared(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that both answered."""
    return [pair for pair in pairs if pair.stable is not None and pair.canary is not None]


def _discordant(
    name: str,
    pairs: Sequence[Pair],
    worse: Callable[[Ranked | None, Ranked | None], bool],
    margin: float,
    level: float,
) -> CheckRow:
    """Pairs where only the canary is worse, beside those where only stable is."""
    canary = [pair for pair in pairs if worse(pair.canary, pair.stable)]
    stable = [pair for pair in pairs if worse(pair.stable, pair.canary)]
    count = len(pairs)
    p_value = excess(len(canary), count, len(stable), count, margin)
    shares = [len(side) / count if count else 0.0 for side in (stable, canary)]
    within = shares[1] - shares[0] <= margin or p_value > _BY_CHANCE
    outcome: Outcome = "fail" if p_value <= level else "pass" if within else "unsure"
    return CheckRow(
        name=name,
        stable=percent(shares[0]),
        canary=percent(shares[1]),
        limit=f"<= stable + {margin:.2%}",
        outcome=outcome,
        detail=f"the canary alone {len(canary)}{_sources(canary)}, stable alone {len(stable)}, of "
        f"{count}; {p_text(p_value, level)}",
    )


def _not_finite(pairs: Sequence[Pair]) -> CheckRow:
    """Not tested: one is a defect."""

    def count(answers: Sequence[Ranked | None]) -> int:
        return sum(
            not all(math.isfinite(score) for score in answer.scores) for answer in answers if answer
        )

    stable = count([pair.stable for pair in pairs])
    canary = count([pair.canary for pair in pairs])
    return CheckRow(
        name="answers with scores that are no numbers",
        stable=stable,
        canary=canary,
        limit="0",
        outcome="pass" if canary == 0 else "fail" if canary > stable else "unsure",
        detail=f"of {len(pairs)} pairs",
    )


def _likeness(
    name: str,
    pairs: Sequence[Pair],
    measure: Callable[[Sequence[str], Sequence[str]], float],
    limit: float,
    limits: RankingLimits,
    level: float,
) -> CheckRow:
    """A mean of numbers in 0..1: fails where its upper confidence bound is below the limit.

    That bound allows for values that are 0 or 1, and takes most of a hundred pairs. A broken model
    is low everywhere, which is told much sooner: it fails too where the mean is below the limit,
    and significantly more than half of the values are. (Two tests: p-values count twice.)
    """
    values = ranking.each(pairs, limits, measure)
    found, below = mean(values), sum(value < limit for value in values)
    p_value = 1.0
    if found < limit:
        both = mean_below(found, limit, len(values)), mostly_below(below, len(values))
        p_value = min(2 * min(both), 1.0)
    by_source = []
    for source in ("golden", "live"):
        own = [value for value, pair in zip(values, pairs, strict=True) if pair.source == source]
        if own:
            by_source.append(f"{source} {mean(own):.3f} of {len(own)}")
    return CheckRow(
        name=name,
        canary=round(found, 4),
        limit=f">= {limit:g}",
        outcome="fail" if p_value <= level else "pass" if found >= limit else "unsure",
        detail=f"mean: {', '.join(by_source)}; {below} below the limit; {p_text(p_value, level)}",
    )


def _coverage(pairs: Sequence[Pair], limits: RankingLimits, level: float) -> CheckRow:
    found = ranking.coverage(pairs, limits)
    p_value = found.below(limits.min_coverage_ratio)
    enough = found.ratio >= limits.min_coverage_ratio
    return CheckRow(
        name="different items recommended",
        stable=found.stable,
        canary=found.canary,
        limit=f">= {limits.min_coverage_ratio:g} × stable",
        outcome="fail" if p_value <= level else "pass" if enough else "unsure",
        detail=f"ratio {found.ratio:.3f}, {len(pairs)} pairs{_sources(pairs)}; "
        f"{p_text(p_value, level)}",
    )


def _popularity(pairs: Sequence[Pair], limits: RankingLimits, level: float) -> CheckRow:
    stable, canary = ranking.popular_shares(pairs, limits)
    increase, limit = mean(canary) - mean(stable), limits.max_popular_increase
    # A difference in -1..1, as a number in 0..1 whose mean has a lower limit.
    p_value = mean_below((1 - increase) / 2, (1 - limit) / 2, len(stable))
    return CheckRow(
        name="share of popular items",
        stable=percent(mean(stable)),
        canary=percent(mean(canary)),
        limit=f"<= stable + {limit:.2%}",
        outcome="fail" if p_value <= level else "pass" if increase <= limit else "unsure",
        detail=f"{len(stable)} pairs; {p_text(p_value, level)}",
    )


def _drift(pairs: Sequence[Pair], limits: RankingLimits, level: float) -> CheckRow:
    found = ranking.drift(pairs, limits)
    p_value = found.beyond(limits.max_score_drift)
    within = found.distance <= limits.max_score_drift
    return CheckRow(
        name="distance of the scores' distributions",
        canary=round(found.distance, 4),
        limit=f"<= {limits.max_score_drift:g}",
        outcome="fail" if p_value <= level else "pass" if within else "unsure",
        detail=f"Kolmogorov-Smirnov, {found.pairs} pairs; {p_text(p_value, level)}",
    )


def _sources(pairs: Sequence[Pair]) -> str:
    sources = [pair.source for pair in pairs]
    golden, live = sources.count("golden"), sources.count("live")
    return f" ({golden} golden, {live} live)" if golden and live else ""
