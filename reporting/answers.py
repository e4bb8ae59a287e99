"""The endpoint's answers as a person reads them: with titles, and what the user has seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHOWN = 10


def answer(
    home: Path,
    address: str,
    *,
    users: Sequence[str] = (),
    histories: Sequence[Sequence[str]] = (),
    exclude: Sequence[str] = (),
    k: int | None = None,
    timeout_s: float = 10.0,
    read_histories: bool = True,
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Recommendations for users, whose histories the endpoint looks up, or for given histories.

    Args:
        home: the state folder, whose feature store has the titles.
        address: host:port of the endpoint, or of the gateway before it; with TLS https://host:port.
        users: user ids, at most 64; an unknown user has an empty history.
        histories: item ids, oldest first, in place of `users`.
        exclude: item ids that nobody gets.
        k: items wanted, at most what the model version answers; by default up to SHOWN.
        timeout_s: deadline of the request.
        read_histories: also say what the users have seen, for which Feast is loaded (seconds).
        host: the endpoint's name, where `address` is a gateway's.
        headers: what the gateway asks for, such as an API key.

    Returns:
        for each: user ("" for a given history), version, feature_status, feature_age_s (None
        where no stored row was used), history and recommendations as lists of {item_id, title},
        the latter with score; an item without a title is shown by its id, and history is None
        where it was not read.

    Raises:
        RecommendError: the endpoint does not answer, or refuses, as it does a `k` that is more
            than it gives.
    """
    from feature_repo.titles import item_titles
    from serving.client import RecommendClient

    rows = len(users) or len(histories)
    with RecommendClient(address, timeout_s, authority=host, headers=headers) as client:
        results = client.recommend_batch(
            None if users else histories,
            [exclude] * rows if exclude else None,
            k,
            user_ids=users or None,
        )
    seen: list[Sequence[str] | None] = [None] * rows if users else [*histories]
    if users and read_histories:
        from feature_repo.online.histories import online_histories

        known = online_histories(home, users)
        seen = [known[user] for user in users]
    best = [
        list(zip(result.item_ids, result.scores, strict=True))[: k or SHOWN] for result in results
    ]
    wanted = {item for history in seen for item in history or ()}
    wanted |= {item for pairs in best for item, _ in pairs}
    titles = item_titles(home, sorted(wanted))

    def named(item: str) -> dict[str, Any]:
        return {"item_id": item, "title": titles.get(item, item)}

    return [
        {
            "user": user,
            "version": result.version,
            "feature_status": result.feature_status,
            "feature_age_s": result.feature_age_s,
            "history": None if history is None else [named(item) for item in history],
            "recommendations": [named(item) | {"score": score} for item, score in pairs],
        }
        for user, history, result, pairs in zip(
            users or [""] * rows, seen, results, best, strict=True
        )
    ]
