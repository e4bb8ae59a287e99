"""Rows of one feature view in an online store, read and changed one whole row at a time.

Feast's own write interface puts rows over whatever is there, which loses what another writer did
meanwhile. Materialisation and live events change the same rows, so both come this way.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from recommender.errors import KuberecError


class OnlineRow(NamedTuple):
    """What is stored of one entity in one view."""

    event_time: datetime  # UTC, aware; stores keep whole seconds of it
    values: Mapping[str, Any]  # feature name → feast.protos.feast.types.Value_pb2.Value


# Of each row in store (None: no such row) what is to be there instead (None: it stays as it is).
Change = Callable[[Sequence[OnlineRow | None]], Sequence[OnlineRow | None]]


class StoreDown(KuberecError):
    """The online store does not answer: nothing, or whole rows only, of the call were written."""


class OnlineRows(Protocol):
    """One view's rows; ids are values of its one join key."""

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        """Each id's row, in order; None where there is none."""

    def change(self, ids: Sequence[str], new: Change) -> int:
        """Read rows, and write what `new` makes of them; how many were written.

        Atomic per row: what another writer does between the two is not lost, `new` is then called
        again. So it must be a pure function. An id may be given once only.

        Raises:
            StoreDown: saying which store, and what to do. Running it again is safe.
        """

    def delete(self, ids: Sequence[str]) -> int:
        """Forget rows; how many there were."""

    def close(self) -> None:
        """Let go of connections."""
