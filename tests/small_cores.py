"""The k-core in memory: what the engine's is compared with."""

from collections import Counter
from collections.abc import Sequence


def k_core(users: Sequence[str], items: Sequence[str], k: int) -> list[bool]:
    """Which edges, given by their two ends, belong to the k-core."""
    kept = [True] * len(users)
    while True:
        of_user = Counter(user for user, stays in zip(users, kept, strict=True) if stays)
        of_item = Counter(item for item, stays in zip(items, kept, strict=True) if stays)
        left = [
            stays and of_user[user] >= k and of_item[item] >= k
            for user, item, stays in zip(users, items, kept, strict=True)
        ]
        if left == kept:
            return kept
        kept = left
