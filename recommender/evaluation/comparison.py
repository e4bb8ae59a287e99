"""The model beside its champion and the baselines, over all users and in each slice.

Differences are paired: of the same users, NDCG@10 of the model less that of the champion, resampled
together. U users.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recommender.evaluation.intervals import bootstrap, paired_interval
from recommender.evaluation.slices import Slice
from recommender.settings import EvaluationConfig

CONFIDENCE = 0.95
MODEL, CHAMPION = "model", "champion"
# NDCG@10 of every user by ranker, [U]; it is above 0 where there is a hit.
Gains = Mapping[str, np.ndarray]


def intervals(gains_U: np.ndarray, config: EvaluationConfig) -> dict[str, list[float]]:
    """95 % intervals of NDCG@10 and HR@10 over users."""
    return {
        "ndcg@10": _interval(gains_U, config),
        "hr@10": _interval(gains_U > 0, config),
    }


def against_champion(gains: Gains, config: EvaluationConfig) -> dict[str, Any]:
    """The champion's NDCG@10, the difference to it and the 95 % interval of that."""
    difference_U = gains[MODEL] - gains[CHAMPION]
    found = bootstrap(difference_U, config.bootstrap, config.seed)
    return {
        "ndcg@10": float(gains[CHAMPION].mean()),
        "hr@10": float((gains[CHAMPION] > 0).mean()),
        "difference": float(difference_U.mean()),
        "difference_interval": list(paired_interval(difference_U, found, CONFIDENCE, config.seed)),
    }


def slice_rows(
    slices: Sequence[Slice], whole: Gains, as_new: Gains, config: EvaluationConfig
) -> list[dict[str, Any]]:
    """One row a slice, JSON-ready.

    Where there is a champion, a slice of at least `min_slice_users` has a `simultaneous_interval`
    of the difference: the intervals of all those slices hold together with 95 % (Bonferroni: each
    with 1 - 0.05 / their number), so that looking into many of them finds no loss by chance.

    Args:
        whole: gains of every ranker from whole histories.
        as_new: gains from the latest events alone, for the slices that say so.
    """
    guarded = sum(int(group.users.sum()) >= config.min_slice_users for group in slices)
    rows = []
    for group in slices:
        gains = {
            name: values_U[group.users]
            for name, values_U in (as_new if group.as_new else whole).items()
        }
        users = int(group.users.sum())
        means = {name: float(values.mean()) for name, values in gains.items()}
        best = max(config.baselines, key=lambda name: means[name])
        row: dict[str, Any] = {
            "by": group.by,
            "slice": group.name,
            "users": users,
            "ndcg@10": means[MODEL],
            "hr@10": float((gains[MODEL] > 0).mean()),
            "interval": _interval(gains[MODEL], config),
            "baseline": best,
            "baseline_ndcg@10": means[best],
            "champion_ndcg@10": None,
            "difference_interval": None,
            "simultaneous_interval": None,
        }
        if CHAMPION in gains:
            difference_U = gains[MODEL] - gains[CHAMPION]
            found = bootstrap(difference_U, config.bootstrap, config.seed)
            levels = {"difference_interval": CONFIDENCE}
            if users >= config.min_slice_users:
                levels["simultaneous_interval"] = 1 - (1 - CONFIDENCE) / guarded
            row["champion_ndcg@10"] = means[CHAMPION]
            for name, level in levels.items():
                row[name] = list(paired_interval(difference_U, found, level, config.seed))
        rows.append(row)
    return rows


def _interval(values_U: np.ndarray, config: EvaluationConfig) -> list[float]:
    return list(bootstrap(values_U, config.bootstrap, config.seed).interval(CONFIDENCE))
