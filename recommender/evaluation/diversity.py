"""What all users together are shown: how much of the catalogue, how obscure, how popular.

Shapes: U users, K shown items a user (index 0: none), N+1 items.
"""

import numpy as np


def coverage(shown_UK: np.ndarray, items: int) -> float:
    """Share of the `items` that are shown to anyone."""
    seen = np.zeros(items + 1, dtype=bool)
    seen[shown_UK] = True
    return float(seen[1:].mean())


def self_information(users_of_N1: np.ndarray, users: int) -> np.ndarray:
    """-log2 of the share of users who know an item, float64 [N+1], entry 0 is 0.

    Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender systems",
    PNAS 107(10): I = log2(u / k) of an item that k of u users have. One user more is counted on
    both sides, so that an item that nobody has is finite.
    """
    information = -np.log2((users_of_N1 + 1.0) / (users + 1.0))
    information[0] = 0.0
    return information


def novelty(shown_UK: np.ndarray, information_N1: np.ndarray) -> float:
    """Mean self-information of the shown items, in bits."""
    shown = shown_UK[shown_UK > 0]
    return float(information_N1[shown].mean()) if len(shown) else 0.0


def popularity_percentiles(counts_N1: np.ndarray) -> np.ndarray:
    """Share of items with fewer training events, half of those with as many; entry 0 is 0.

    Between 0 (nobody's) and 1 (everybody's), with a mean of 0.5 over the items.
    """
    counts = counts_N1[1:]
    ordered = np.sort(counts)
    fewer = np.searchsorted(ordered, counts, side="left")
    not_more = np.searchsorted(ordered, counts, side="right")
    return np.concatenate([[0.0], (fewer + not_more) / (2.0 * len(counts))])


def popularity_bias(
    shown_UK: np.ndarray, targets_U: np.ndarray, percentiles_N1: np.ndarray
) -> float:
    """Mean popularity percentile of shown items over that of the items that users then chose.

    1: what is shown is as popular as what is wanted; above it the popular is overdone.
    """
    shown = shown_UK[shown_UK > 0]
    wanted = float(percentiles_N1[targets_U].mean())
    return float(percentiles_N1[shown].mean()) / wanted if len(shown) and wanted else 0.0


def users_of_items(histories: list[np.ndarray], items: int) -> np.ndarray:
    """How many of the histories have each item, int64 [N+1]; entry 0 is 0."""
    users = np.zeros(items + 1, dtype=np.int64)
    for history in histories:
        users[np.unique(history)] += 1
    users[0] = 0
    return users
