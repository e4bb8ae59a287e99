"""Histories as the serving lookup hands them to a ranker."""

from collections.abc import Sequence

import numpy as np

from recommender.sequences import pad
from recommender.string_graphs import EVENT_TIMES


def ranker_inputs(
    histories: Sequence[np.ndarray],
    max_length: int,
    max_seen: int,
    times: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, ...]:
    """(history_ids [B, L], seen_ids [B, S]), int64, the latest items, padded with 0 on the left.

    With `times` event_times [B, L] are the third, for rankers that read them.
    """
    ids = pad(histories, max_length), pad(histories, max_seen)
    return ids if times is None else (*ids, pad(times, max_length))


def request_inputs(
    history_ids: np.ndarray, seen_ids: np.ndarray, event_times: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Requests by the names of a ranker's inputs."""
    given = {"history_ids": history_ids, "seen_ids": seen_ids}
    if event_times is not None:
        given[EVENT_TIMES] = event_times
    return given
