"""What `kuberec recommend` does: find the endpoint, ask it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError


def recommend(
    home: Path,
    *,
    user: str | None,
    history: Sequence[str] | None,
    exclude: Sequence[str] = (),
    k: int | None = None,
    timeout_s: float = 10.0,
    read_history: bool = True,
) -> dict[str, Any]:
    """One answer of the running endpoint (reporting.answers); `user` or `history`, not both.

    Raises:
        KuberecError: neither or both are given, an id is no UTF-8, nothing serves, or the
            endpoint refuses.
    """
    if bool(user) == bool(history):
        raise KuberecError(
            "name either a user (--user 196) or the items of a history (--item 50 --item 172)"
        )
    for each in (user or "", *(history or ()), *exclude):
        try:
            each.encode()
        except UnicodeEncodeError:  # bytes of the command line that are no text
            raise KuberecError(f"{each!r} is not UTF-8, as ids are") from None
    from pipelines.serve import address
    from reporting.answers import answer

    (result,) = answer(
        home,
        address(home),
        users=[user] if user else [],
        histories=[history] if history else [],
        exclude=exclude,
        k=k,
        timeout_s=timeout_s,
        read_histories=read_history,
    )
    return result
