"""The k-core of a set of events; apart, because it needs no torch."""

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Which events belong to the k-core: every user and every item left has at least `k` of them.

    Args:
        users, items: the two ends of each event, arrays of strings of one length.

    Returns:
        bool [events]. Dropping rare users makes items rare and so on: repeated to the fixed point.
    """
    user = np.unique(users, return_inverse=True)[1]
    item = np.unique(items, return_inverse=True)[1]
    kept = np.ones(len(users), dtype=bool)
    while kept.any():
        often = (np.bincount(user[kept], minlength=user.max() + 1) >= k)[user] & (
            np.bincount(item[kept], minlength=item.max() + 1) >= k
        )[item]
        if often[kept].all():
            break
        kept &= often
    return kept
