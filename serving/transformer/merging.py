"""What clients' requests ask of Triton, and how much of it one request to Triton may hold."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from feature_repo.online.batching import Admits

# Rows of a request are padded to its longest: so much padding is always allowed, and beyond it as
# many cells as there are ids.
_FREE_CELLS = 512


class Ranking(NamedTuple):
    """Triton's answer for B rows: BYTES [B, K] and FP32 [B, K], as they came."""

    item_ids: bytes
    scores: bytes
    width: int  # K


class Job:
    """What one request asks of Triton, and since when (`asked`, by time.perf_counter).

    `of_client`: whether its wait is one that a client has. `times`: of each of the histories'
    events in seconds, None of a row whose times are not known; None where no row's are.
    """

    __slots__ = (
        "asked",
        "excludes",
        "histories",
        "ids",
        "metadata",
        "of_client",
        "request_id",
        "times",
        "width",
    )

    def __init__(
        self,
        histories: Sequence[Sequence[bytes | str]],
        excludes: Sequence[Sequence[bytes]] | None,
        request_id: str,
        metadata: Sequence[tuple[str, str]] = (),
        of_client: bool = True,
        times: Sequence[Sequence[int] | None] | None = None,
    ) -> None:
        self.times = times
        self.histories, self.excludes = histories, excludes
        self.request_id, self.metadata, self.of_client = request_id, metadata, of_client
        self.asked = time.perf_counter()
        lengths = [len(row) for row in histories]
        self.ids, self.width = sum(lengths), max(lengths)

    @property
    def rows(self) -> int:
        return len(self.histories)


def room_for(max_rows: int) -> Callable[[], Admits]:
    """Rooms of so many rows each, and of little padding, for a Batcher of jobs."""

    def room() -> Admits:
        rows = ids = width = 0

        def admits(jobs: Sequence[Job]) -> bool:
            nonlocal rows, ids, width
            (job,) = jobs
            cells = (rows + job.rows) * max(width, job.width)
            fits = rows + job.rows <= max_rows and cells <= 2 * (ids + job.ids) + _FREE_CELLS
            if fits or not rows:
                rows, ids, width = rows + job.rows, ids + job.ids, max(width, job.width)
            return fits

        return admits

    return room
