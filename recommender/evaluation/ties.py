"""How much of a figure is the order of events that happened at once.

A source with days instead of seconds lists a day's events in an order of its own, by item for
example, and a model can learn it. Two questions, two ways:

- What does a trained model owe to that order in what it reads? `tie_metrics` shuffles each history
  within equal times and ranks again. The held-out event stays the held-out one: were it exchanged
  with an event of its time, a target would be one that training has seen.
- What would the whole have been without it? Shuffle the sequences before anything is held out, and
  train anew (benchmarks/sequence_data.py does, for files without times).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recommender.evaluation.baselines import Scorer
from recommender.evaluation.metrics import rank_metrics
from recommender.evaluation.ranking import masked_ranks
from recommender.sequences import Split

METRICS = ("ndcg@10", "hr@10")


def tie_groups(times: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Groups of events that happened at once, from their times in seconds: int64, ascending.

    Events whose time is unknown (0) are alone: nothing says that they may be exchanged.
    """
    groups = []
    for own in times:
        later = np.diff(own) != 0
        alone = (own[1:] == 0) | (own[:-1] == 0)
        groups.append(np.concatenate([[0], np.cumsum(later | alone)])[: len(own)].astype(np.int64))
    return groups


def ascending_runs(sequences: Sequence[Sequence[Any]]) -> list[np.ndarray]:
    """Groups for sequences without times whose ties were stored in ascending order of these keys.

    Every set of events that happened at once is within one ascending run. Neighbours that ascend by
    chance are grouped too: a figure shuffled this way is at most as good as the true one.
    """
    runs = []
    for keys in sequences:
        falls = [not keys[place - 1] < keys[place] for place in range(1, len(keys))]
        runs.append(np.concatenate([[0], np.cumsum(falls)])[: len(keys)].astype(np.int64))
    return runs


def tied_share(groups: Sequence[np.ndarray]) -> float:
    """Share of events that are not alone in their group."""
    tied = sum(int((np.bincount(own)[own] > 1).sum()) for own in groups if len(own))
    return tied / max(sum(map(len, groups)), 1)


def shuffle_within(
    sequences: Sequence[np.ndarray], groups: Sequence[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Each sequence with the events of each group in random order.

    Raises:
        ValueError: a sequence and its groups differ in length.
    """
    shuffled = []
    for sequence, own in zip(sequences, groups, strict=True):
        if len(sequence) != len(own):
            raise ValueError(f"{len(sequence)} events have {len(own)} groups: give one an event")
        shuffled.append(sequence[np.lexsort((rng.random(len(own)), own))])
    return shuffled


def tie_metrics(
    scorer: Scorer,
    split: Split,
    items: int,
    groups: Sequence[np.ndarray],
    shuffles: int,
    seed: int,
) -> dict[str, Any]:
    """NDCG@10 and HR@10 with ties shuffled so many times: means, and the range of NDCG@10.

    Args:
        groups: of each history's events (`tie_groups`, `ascending_runs`).
    """
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(shuffles):
        histories = shuffle_within(split.histories, groups, rng)
        ranks = masked_ranks(scorer, replace(split, histories=histories), items)
        runs.append(rank_metrics(ranks, cutoffs=(10,)))
    return {
        "tied_events": tied_share(groups),
        "shuffles": shuffles,
        **{name: float(np.mean([run[name] for run in runs])) for name in METRICS},
        "range": [min(run["ndcg@10"] for run in runs), max(run["ndcg@10"] for run in runs)],
    }
