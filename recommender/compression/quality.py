"""What a candidate's answers are worth: NDCG@10 of each test user, with intervals and slices.

All is paired with the full model: differences are of the same users, resampled together. U users.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recommender.compression.rankers import Answer, open_ranker, torch_threads
from recommender.errors import KuberecError
from recommender.evaluation.comparison import CONFIDENCE
from recommender.evaluation.intervals import bootstrap, paired_interval
from recommender.evaluation.metrics import gains
from recommender.evaluation.slices import Slice
from recommender.ranker_inputs import ranker_inputs
from recommender.sequences import Split
from recommender.settings import EvaluationConfig, ModelConfig

BATCH = 64


@dataclass(frozen=True)
class Gains:
    """NDCG@10 of every test user, float64 [U]; above 0 is a hit, which Recall@10 counts.

    Attributes:
        whole: from whole histories.
        as_new: from the latest `evaluation.new_user_events` alone; what was seen is still masked.
    """

    whole: np.ndarray
    as_new: np.ndarray

    def of(self, group: Slice) -> np.ndarray:
        """Of a slice's users."""
        return (self.as_new if group.as_new else self.whole)[group.users]

    def save(self, path: Path) -> None:
        np.savez(path, allow_pickle=False, whole=self.whole, as_new=self.as_new)

    @classmethod
    def load(cls, path: Path) -> "Gains":
        with np.load(path, allow_pickle=False) as content:
            return cls(content["whole"], content["as_new"])


def list_gains(indices_BK: np.ndarray, targets_B: np.ndarray) -> np.ndarray:
    """NDCG@10 of ranked lists of at least 10; a target outside its first 10 is a miss.

    Raises:
        ValueError: the lists are shorter.
    """
    if indices_BK.shape[1] < 10:
        raise ValueError(f"lists of {indices_BK.shape[1]} items cannot be judged at 10")
    found_BK = indices_BK[:, :10] == targets_B[:, None]
    ranks = np.where(found_BK.any(axis=1), found_BK.argmax(axis=1) + 1.0, np.inf)
    return gains(ranks)


def measure_gains(
    place: Path, split: Split, config: ModelConfig, k: int, max_seen: int, new_user_events: int
) -> Gains:
    """Of the ranker at `place`, asked for every user of `split`; on all processors there are."""
    threads = len(os.sched_getaffinity(0))
    with torch_threads(place, threads):
        answer = open_ranker(place, k, threads)
        return Gains(
            answered_gains(answer, split, config, max_seen),
            answered_gains(answer, split, config, max_seen, new_user_events),
        )


def answered_gains(
    answer: Answer, split: Split, config: ModelConfig, max_seen: int, latest: int | None = None
) -> np.ndarray:
    """NDCG@10 of every user of `split`, float64 [U].

    `latest`: the ranker is told so many events alone; what was seen is still masked.
    """
    times = split.times_for(config)
    parts = []
    for start in range(0, len(split), BATCH):
        rows = slice(start, start + BATCH)
        inputs = _inputs(split.histories[rows], times and times[rows], config, max_seen, latest)
        parts.append(list_gains(answer(*inputs), split.targets[rows]))
    return np.concatenate(parts)


def _inputs(
    histories: Sequence[np.ndarray],
    times: Sequence[np.ndarray] | None,
    config: ModelConfig,
    max_seen: int,
    latest: int | None,
) -> tuple[np.ndarray, ...]:
    """What the graph takes; `latest`: it is told so many events alone, and masks all the same."""
    whole = ranker_inputs(histories, config.max_length, max_seen, times)
    if latest is None:
        return whole
    recent = ranker_inputs(
        [own[-latest:] for own in histories],
        config.max_length,
        max_seen,
        None if times is None else [own[-latest:] for own in times],
    )
    return (recent[0], whole[1], *recent[2:])


class Judge:
    """Rows' quality, with intervals by bootstrap over users.

    Args:
        slices: of `evaluation.slices.make_slices`.
        config: resamples, seed and `min_slice_users`: slices of fewer are shown, not judged.
        full: gains of the full model.
    """

    def __init__(self, slices: Sequence[Slice], config: EvaluationConfig, full: Gains) -> None:
        self.slices, self.config, self.full = slices, config, full
        judged = sum(int(group.users.sum()) >= config.min_slice_users for group in slices)
        self.together = 1 - (1 - CONFIDENCE) / max(judged, 1)

    def quality(self, own: Gains, before: Gains | None) -> dict[str, Any]:
        """The ledger's figures of a candidate.

        Args:
            before: gains of the row before; None for the full model, which is compared with
                nothing.

        Returns:
            ndcg@10, recall@10, intervals (95 %, of both), slices; to_full and to_before:
            {"difference", "interval"} of NDCG@10, or None.
        """
        return {
            "ndcg@10": float(own.whole.mean()),
            "recall@10": float((own.whole > 0).mean()),
            "intervals": {
                "ndcg@10": self._interval(own.whole),
                "recall@10": self._interval(own.whole > 0),
            },
            "to_full": before and self._difference(own, self.full),
            "to_before": before and self._difference(own, before),
            "slices": [self._slice(group, own, compared=bool(before)) for group in self.slices],
        }

    def _slice(self, group: Slice, own: Gains, compared: bool) -> dict[str, Any]:
        """A row; `simultaneous_interval`: all of them hold together with 95 % (Bonferroni)."""
        values, users = own.of(group), int(group.users.sum())
        row: dict[str, Any] = {
            "by": group.by,
            "slice": group.name,
            "users": users,
            "ndcg@10": float(values.mean()),
            "recall@10": float((values > 0).mean()),
            "interval": self._interval(values),
        }
        if compared:
            full = self.full.of(group)
            levels = [
                CONFIDENCE,
                *([self.together] if users >= self.config.min_slice_users else []),
            ]
            difference, (usual, *together) = self._paired(values - full, levels)
            row |= {
                "full_ndcg@10": float(full.mean()),
                "difference": difference,
                "difference_interval": usual,
                "simultaneous_interval": together[0] if together else None,
            }
        return row

    def _difference(self, own: Gains, other: Gains) -> dict[str, Any]:
        difference, (interval,) = self._paired(own.whole - other.whole, [CONFIDENCE])
        return {"difference": difference, "interval": interval}

    def _paired(
        self, differences_U: np.ndarray, levels: Sequence[float]
    ) -> tuple[float, list[list[float]]]:
        """The mean difference, and its interval at each level of confidence."""
        found = bootstrap(differences_U, self.config.bootstrap, self.config.seed)
        return found.mean, [
            list(paired_interval(differences_U, found, level, self.config.seed)) for level in levels
        ]

    def _interval(self, values_U: np.ndarray) -> list[float]:
        return list(
            bootstrap(values_U, self.config.bootstrap, self.config.seed).interval(CONFIDENCE)
        )


def slice_name(group: Slice) -> str:
    """As budgets call it."""
    return f"{group.by}: {group.name}"


def require_slices(named: Sequence[str], slices: Sequence[Slice], config: EvaluationConfig) -> None:
    """Every slice with a budget of its own has to be there, with enough users to be judged.

    Raises:
        KuberecError: one is not.
    """
    users = {slice_name(group): int(group.users.sum()) for group in slices}
    for name in named:
        if name not in users:
            raise KuberecError(
                f"compression.max_slice_losses: there is no slice '{name}'; there are: "
                + ", ".join(f"'{each}'" for each in users)
            )
        if users[name] < config.min_slice_users:
            raise KuberecError(
                f"compression.max_slice_losses: slice '{name}' has {users[name]} users and is not "
                f"judged; evaluation.min_slice_users is {config.min_slice_users}"
            )
