"""What two versions recommend to the same requests: overlap, coverage, popularity, scores."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from serving.rollout.evidence import Pair, Ranked
from serving.rollout.judging.statistics import mean_below, normal_below
from serving.rollout.settings import RankingLimits

PERSISTENCE = 0.9  # of rank-biased overlap: the first ten places have 86 % of the weight

SUMMARY = (
    "overlap",
    "rbo",
    "coverage_ratio",
    "popular_stable",
    "popular_canary",
    "score_drift",
)


class Coverage(NamedTuple):
    """Distinct items among the top-K of all pairs, and each pair's own share in them.

    Attributes:
        only_stable, only_canary: [pairs] items of the pair's list that no other pair's list has.
    """

    stable: int
    canary: int
    only_stable: Sequence[int]
    only_canary: Sequence[int]

    @property
    def ratio(self) -> float:
        return self.canary / self.stable if self.stable else 1.0

    def below(self, limit: float) -> float:
        """P-value against "the canary's expected number is at least `limit` times stable's".

        Of D = canary - limit * stable, by a normal distribution whose variance is the sum of what
        D changes by when one pair is left out, squared: never too small in expectation (Efron and
        Stein 1981, Annals of Statistics 9:586).
        """
        changes = (
            own - limit * others
            for own, others in zip(self.only_canary, self.only_stable, strict=True)
        )
        # Where every item is in several lists, leaving out one changes nothing; but by one item the
        # numbers may always differ.
        variance = max(sum(change * change for change in changes), 1.0)
        return normal_below(self.canary - limit * self.stable, variance)


class Drift(NamedTuple):
    """Kolmogorov-Smirnov distance of both versions' scores, 0..1.

    Attributes:
        thresholds: different scores at which it was looked for.
    """

    distance: float
    thresholds: int
    pairs: int

    def beyond(self, limit: float) -> float:
        """P-value against "the distance is at most `limit`".

        At one threshold the distance is a mean over the pairs, of a difference in -1..1; its
        p-value is taken as many times as there are thresholds and directions (the scores within a
        list depend on each other, so that the lists are what is counted).
        """
        p_value = mean_below((1 - self.distance) / 2, (1 - limit) / 2, self.pairs)
        return min(2 * self.thresholds * p_value, 1.0)


def rbo(first: Sequence[str], second: Sequence[str], persistence: float = PERSISTENCE) -> float:
    """Rank-biased overlap, 0..1, of two lists without repetition; RBO_ext, for uneven lengths too.

    What is beyond the lists is extrapolated from their agreement (Webber, Moffat and Zobel 2010,
    ACM TOIS 28(4):20, equation 32). Two empty lists are alike: 1; one: 0.
    """
    shorter, longer = sorted((first, second), key=len)
    s, length = len(shorter), len(longer)
    if s == 0:
        return 1.0 if length == 0 else 0.0
    p, common, at_s, weighted = persistence, 0, 0, 0.0
    seen: tuple[set[str], set[str]] = (set(), set())
    for depth in range(1, length + 1):
        seen[1].add(longer[depth - 1])
        common += longer[depth - 1] in seen[0]
        if depth <= s:
            seen[0].add(shorter[depth - 1])
            common += shorter[depth - 1] in seen[1]
            at_s = common
            weighted += common / depth * p**depth
        else:
            extrapolated = common + at_s * (depth - s) / s
            weighted += extrapolated / depth * p**depth
    beyond = (common - at_s) / length + at_s / s
    return (1 - p) / p * weighted + beyond * p**length


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Items in common, by the longer list. Two empty lists are alike: 1."""
    longest = max(len(first), len(second))
    return len(set(first) & set(second)) / longest if longest else 1.0


def answered(pairs: Sequence[Pair], limits: RankingLimits) -> list[Pair]:
    """Those with an answer of both that say something about the models.

    Not those where stable has nothing to be compared with, and not those that any model answers
    by popularity: without a history, and (of unknown items only) answered alike. Where there are
    no others, these.
    """
    both = [
        pair for pair in pairs if pair.canary is not None and pair.stable and pair.stable.item_ids
    ]
    without = {_top(pair.stable, pair, limits) for pair in both if pair.cold}
    personal = [pair for pair in both if _top(pair.stable, pair, limits) not in without]
    return personal or both


def each(
    pairs: Sequence[Pair],
    limits: RankingLimits,
    measure: Callable[[Sequence[str], Sequence[str]], float],
) -> list[float]:
    """`measure` of the top-K of each answered pair."""
    return [measure(*lists) for lists in _tops(pairs, limits)]


def coverage(pairs: Sequence[Pair], limits: RankingLimits) -> Coverage:
    """Distinct items of both versions over the answered pairs."""
    sides = list(zip(*_tops(pairs, limits), strict=True)) or [(), ()]
    counts = [Counter(item for items in side for item in items) for side in sides]
    only = [
        [sum(count[item] == 1 for item in items) for items in side]
        for side, count in zip(sides, counts, strict=True)
    ]
    return Coverage(len(counts[0]), len(counts[1]), only[0], only[1])


def popular_items(pairs: Sequence[Pair], limits: RankingLimits) -> frozenset[str]:
    """What counts as popular.

    A request with an empty history is answered by popularity alone: all items of stable's answers
    to those. Where none was asked, the items that stable recommends most often, as many as two
    lists have; which favours the canary, since they were chosen by stable's own lists.
    """
    cold = [pair.stable for pair in pairs if pair.cold and pair.stable]
    if any(answer.item_ids for answer in cold):
        return frozenset(item for answer in cold for item in answer.item_ids)
    counts = Counter(item for items, _ in _tops(pairs, limits) for item in items)
    return frozenset(item for item, _ in counts.most_common(2 * limits.top_k))


def popular_shares(pairs: Sequence[Pair], limits: RankingLimits) -> tuple[list[float], list[float]]:
    """Share of popular items in each answered pair's top-K: stable's and the canary's."""
    popular = popular_items(pairs, limits)
    tops = _tops(pairs, limits)

    def share(items: Sequence[str]) -> float:
        return sum(item in popular for item in items) / len(items) if items else 0.0

    return [share(items) for items, _ in tops], [share(items) for _, items in tops]


def drift(pairs: Sequence[Pair], limits: RankingLimits) -> Drift:
    """Of the scores of the top-K. Each list has the same weight, however long it is.

    A model that was trained anew may score on another scale and rank as well.
    """
    import numpy as np

    used = [
        (_scores(pair.stable, pair, limits), _scores(pair.canary, pair, limits))
        for pair in answered(pairs, limits)
        if pair.stable and pair.canary
    ]
    used = [(stable, canary) for stable, canary in used if len(stable) and len(canary)]
    if not used:
        return Drift(0.0, 0, 0)
    values = np.concatenate([scores for both in used for scores in both])
    weights = np.concatenate(
        [
            np.full(len(scores), sign / len(scores))
            for both in used
            for scores, sign in zip(both, (1, -1), strict=True)
        ]
    )
    thresholds, places = np.unique(values, return_inverse=True)
    steps = np.bincount(places, weights) / len(used)
    distance = float(np.abs(np.cumsum(steps)).max())
    return Drift(min(distance, 1.0), len(thresholds), len(used))


def summary(pairs: Sequence[Pair], limits: RankingLimits) -> dict[str, Any]:
    """The numbers that a timeline shows. None where no pair has answers to compare."""
    sources = Counter(pair.source for pair in pairs)
    counts = {"golden": sources["golden"], "live": sources["live"]}
    if not answered(pairs, limits):
        return dict.fromkeys(SUMMARY) | {"pairs": counts}
    popular = popular_shares(pairs, limits)
    numbers = (
        mean(each(pairs, limits, overlap)),
        mean(each(pairs, limits, rbo)),
        coverage(pairs, limits).ratio,
        mean(popular[0]),
        mean(popular[1]),
        drift(pairs, limits).distance,
    )
    return dict(zip(SUMMARY, (round(number, 4) for number in numbers), strict=True)) | {
        "pairs": counts
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _tops(
    pairs: Sequence[Pair], limits: RankingLimits
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [
        (_top(pair.stable, pair, limits), _top(pair.canary, pair, limits))
        for pair in answered(pairs, limits)
    ]


def _top(answer: Ranked | None, pair: Pair, limits: RankingLimits) -> tuple[str, ...]:
    """The first items, each once; as many as were asked for, and at most top_k."""
    items = answer.item_ids if answer is not None else ()
    return tuple(dict.fromkeys(items))[: min(limits.top_k, pair.k)]


def _scores(answer: Ranked, pair: Pair, limits: RankingLimits) -> Any:
    import numpy as np

    scores = np.asarray(answer.scores[: min(limits.top_k, pair.k)], dtype=float)
    return scores[np.isfinite(scores)]
