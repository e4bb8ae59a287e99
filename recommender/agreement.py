"""How far two rankers' answers to the same requests are from each other."""

from typing import NamedTuple

import numpy as np

TIE = 1e-5  # scores closer than this are equal in float32, whoever adds them up
TOP = 10  # what most clients show; the metrics' cutoff too


class Answers(NamedTuple):
    """Ranked lists, best first: ids (indices or strings) [B, K] and scores float32 [B, K]."""

    ids_BK: np.ndarray
    scores_BK: np.ndarray


def agreement(first: Answers, second: Answers, tie: float = 0.0) -> dict[str, float]:
    """What a link of the parity chain is judged by.

    Args:
        tie: scores that are no further apart are equal: which of several tied items comes last is
            the arithmetic's whim, so that it counts as common (where tie is not 0).

    Returns:
        requests; top_k_overlap and top_10_overlap, the mean share of a list's K (10) items that the
        other list has; max_abs_score_diff and mean_abs_score_diff, rank by rank, so that tied items
        may swap. Differences are infinite where the lists are of other lengths.

    Raises:
        ValueError: there are no answers, or not equally many.
    """
    requests, k = first.ids_BK.shape
    if not requests or len(second.ids_BK) != requests:
        raise ValueError(f"{requests} answers cannot be compared with {len(second.ids_BK)}")
    if first.scores_BK.shape == second.scores_BK.shape:
        apart_BK = _apart(first.scores_BK, second.scores_BK)
        largest, mean = float(apart_BK.max()), float(apart_BK.mean())
    else:
        largest = mean = float("inf")
    return {
        "requests": requests,
        "top_k_overlap": _overlap(first, second, k, tie),
        "top_10_overlap": _overlap(first, second, TOP, tie),
        "max_abs_score_diff": largest,
        "mean_abs_score_diff": mean,
    }


def top_k_overlap(first_BK: np.ndarray, second_BK: np.ndarray) -> float:
    """Mean share of `first`'s items that `second` has too, 1.0 if they hold the same."""
    return float(_common(first_BK, second_BK).mean())


def _overlap(first: Answers, second: Answers, cut: int, tie: float) -> float:
    common_BK = _common(first.ids_BK[:, :cut], second.ids_BK[:, :cut])
    scores_BK, others_BK = first.scores_BK[:, :cut], second.scores_BK[:, :cut]
    if tie and scores_BK.shape == others_BK.shape:
        # Both lists end at the same score, and the item has it.
        ends_B1 = _apart(scores_BK[:, -1:], others_BK[:, -1:]) <= tie
        common_BK |= ends_B1 & (scores_BK <= scores_BK[:, -1:] + tie)
    return float(common_BK.mean())


def _common(first_BK: np.ndarray, second_BK: np.ndarray) -> np.ndarray:
    return np.asarray((first_BK[:, :, None] == second_BK[:, None, :]).any(axis=2))


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|first - second|, float64: 0 for equal infinities, infinite where one is not a number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(first.astype(np.float64) - second)
    return np.where(first == second, 0.0, np.nan_to_num(apart, nan=np.inf))
