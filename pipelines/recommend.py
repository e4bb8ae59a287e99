"""What `kuberec recommend` does: find the endpoint, ask it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError


def recommend(
    home: Path, *, user: str | None, history: Sequence[str] | None, k: int
) -> dict[str, Any]:
    """One answer of the running endpoint (reporting.answers); `user` or `history`, not both.

    Raises:
        KuberecError: neither or both are given, or nothing serves.
    """
    if bool(user) == bool(history):
        raise KuberecError(
            "name either a user (--user 196) or the items of a history (--item 50 --item 172)"
        )
    from pipelines.serve import address

    where = address(home)  # before the feature store's slow import
    from reporting.answers import answer

    users = [user] if user else []
    (result,) = answer(home, where, users=users, histories=[history] if history else [], k=k)
    return result
