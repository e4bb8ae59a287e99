"""Rows of one feature view in an online store, read and changed one whole row at a time.

Feast's own write interface puts rows over whatever is there, which loses what another writer did
meanwhile. Materialisation and live events change the same rows, so both come this way.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from recommender.errors import KuberecError


class OnlineRow(NamedTuple):
    """What is stored of one entity in one view."""

    event_time: datetime  # UTC, aware; stores keep whole seconds of it
    values: Mapping[str, Any]  # feature name → feast.protos.feast.types.Value_pb2.Value


# A Change answers with this for a row that is to go.
NO_ROW = OnlineRow(datetime(1970, 1, 1, tzinfo=UTC), {})
# Of each row in store (None: no such row) what is to be there instead (None: it stays as it is).
Change = Callable[[Sequence[OnlineRow | None]], Sequence[OnlineRow | None]]


class StoreDown(KuberecError):
    """The online store does not answer: nothing, or whole rows only, of the call were written."""


class TakenOver(KuberecError):
    """Another materialisation has begun: none of this one's rows may be written any more."""


class OnlineRows(Protocol):
    """One view's rows; ids are values of its one join key. For one thread at a time."""

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        """Each id's row, in order; None where there is none."""

    def change(self, ids: Sequence[str], new: Change, live: bool = False) -> int:
        """Read rows, and write what `new` makes of them; how many were written.

        Atomic per row: what another writer does between the two is not lost, `new` is then called
        again, with a row for each id as before. So it must be a pure function, row by row. An id
        may be given once only, and a few thousand at a time: others may wait for all of them.

        Args:
            live: rows that are written get a note, see BulkRows.noted.

        Raises:
            StoreDown: saying which store, and what to do. Running it again is safe.
        """

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows; how many there were."""

    def close(self) -> None:
        """Let go of connections."""


class EncodedRows(NamedTuple):
    """Rows as Feast would store them, column by column, each id once."""

    ids: Sequence[str]
    times_us: Sequence[int]  # event times, microseconds since 1970, UTC
    values: Mapping[str, Sequence[bytes]]  # feature name → serialised Values


class Mark(NamedTuple):
    """What an online store itself says of a view's materialisation."""

    token: str  # of the run that has, or had last, the right to write
    content: Mapping[str, Any]  # JSON


class BulkRows(OnlineRows, Protocol):
    """And what materialisation needs beside: many rows fast, and a mark of how far it has come.

    The mark lies in the store, and is written after the rows that it speaks of. So a store that
    came back from a crash without its last writes, or empty, does not claim to hold them.
    """

    def put(self, rows: EncodedRows, before_s: int | None, mark: Mark | None) -> list[int]:
        """Write rows where the store has none, or one whose event time is before a second.

        Atomic per row, like `change`, but without reading rows.

        Args:
            rows: of the view; all of its features.
            before_s: a stored row of this second since 1970 or later stays; None: any row stays.
            mark: replaces the store's, afterwards. Only its own token lets rows be written.

        Returns:
            Places of the rows that were not written.

        Raises:
            TakenOver: the store's mark has another token.
            StoreDown: some of the rows may be written.
        """

    def mark(self) -> Mark | None:
        """The store's mark of this view."""

    def claim(self, mark: Mark) -> None:
        """Replace the store's mark, whatever it is."""

    def ids(self) -> Sequence[str]:
        """Of all rows in store, sorted. May take long."""

    def noted(self) -> dict[str, str]:
        """Ids of rows with live events in them, each with a text that is new after every change.

        Materialisation looks at these, also where the data has nothing new. There may be more:
        whoever dies while writing leaves a note too many rather than one too few.
        """

    def settle(self, noted: Mapping[str, str]) -> None:
        """Drop notes, but those that were renewed since they were read."""
