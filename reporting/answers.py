"""The endpoint's answers as a person reads them: a user's history in, titles out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError


def answer(
    home: Path,
    address: str,
    *,
    users: Sequence[str] = (),
    histories: Sequence[Sequence[str]] = (),
    k: int = 10,
) -> list[dict[str, Any]]:
    """Recommendations for users (history from the online store) or for given histories.

    Args:
        home: the state folder, whose feature store is read.
        address: host:port of the endpoint.
        users: user ids; an unknown user has an empty history.
        histories: item ids, oldest first, in place of `users`.
        k: items wanted, at most what the model version answers.

    Returns:
        for each: user ("" for a given history), history and recommendations as lists of
        {item_id, title}, the latter with score; an item without a title is shown by its id.

    Raises:
        KuberecError: the endpoint does not answer, or `k` is more than it gives.
    """
    from feature_repo.online import online_histories
    from feature_repo.titles import item_titles
    from serving.client import RecommendClient

    if users:
        known = online_histories(home, users)
        histories = [known[user] for user in users]
    with RecommendClient(address) as client:
        try:
            results = client.recommend_batch(histories, k=k)
        except ValueError as error:
            raise KuberecError(f"{error} (export.k)") from error
    wanted = {item for history in histories for item in history}
    wanted |= {item for result in results for item in result.item_ids}
    titles = item_titles(home, sorted(wanted))
    names = list(users) or [""] * len(results)
    return [
        {
            "user": user,
            "history": [{"item_id": item, "title": titles.get(item, item)} for item in history],
            "recommendations": [
                {"item_id": item, "title": titles.get(item, item), "score": float(score)}
                for item, score in zip(result.item_ids, result.scores, strict=True)
            ],
        }
        for user, history, result in zip(names, histories, results, strict=True)
    ]
