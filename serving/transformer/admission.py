"""How much one replica takes on at once; what is beyond it is refused at once, not late."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.transformer import metrics
from serving.transformer.errors import RequestFailed


class Admission:
    """Counts rows under way.

    A queue in front of one event loop only makes everybody late, lookups of features among them,
    whose deadline would then turn good answers into popular ones.
    """

    def __init__(self, max_rows: int) -> None:
        self._max_rows, self._rows = max_rows, 0

    @contextmanager
    def room(self, rows: int) -> Iterator[None]:
        """Hold room for a request of so many rows; one that comes alone is never too large.

        Raises:
            RequestFailed: UNAVAILABLE, if too much is under way.
        """
        if self._rows and self._rows + rows > self._max_rows:
            metrics.count(metrics.OVERLOADED)
            raise RequestFailed(
                f"{self._rows} rows are under way and this replica takes {self._max_rows} at once "
                "(serving.transformer.max_rows_in_flight): ask again in a moment",
                "UNAVAILABLE",
            )
        self._rows += rows
        metrics.ROWS_IN_FLIGHT.set(self._rows)
        try:
            yield
        finally:
            self._rows -= rows
            metrics.ROWS_IN_FLIGHT.set(self._rows)
