"""What a store is known to hold of a view: a mark in the store, and hashes in the state home.

The mark says who materialised what last (`holds`, a token), and how far a materialisation has come
that has not ended (`running`). The hashes of that token's rows lie in the state home; without them,
or when the mark is gone or another's, nothing is known of the store, and all rows are written.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.stores.base import Mark
from recommender.files import content_fingerprint, fingerprint, read_json, write_json


class Source(NamedTuple):
    """A view's offline table."""

    view: str
    table: Path
    covered_until_us: int  # the data decides up to and with this time, microseconds since 1970
    history_length: int  # latest events that a history holds

    def fingerprint(self) -> str:
        """Of all that decides on rows."""
        return fingerprint(
            [content_fingerprint(self.table), self.covered_until_us, self.history_length]
        )


class Running(NamedTuple):
    """A materialisation that has not ended."""

    offline_fingerprint: str
    base: str | None  # token of what the store held before; None: unknown
    covered_until_us: int
    place: int  # of the last row that is in, in the offline table; -1: none is
    written: int  # rows


class Known(NamedTuple):
    """A mark's content."""

    holds: str | None = None  # token of what the store holds; None: unknown
    hashed_by: str = ""
    at: str | None = None  # end of the last materialisation, ISO 8601
    rows: int | None = None
    covered_until_us: int | None = None
    offline_fingerprint: str | None = None
    running: Running | None = None

    @property
    def newest_us(self) -> int | None:
        """What the newest data in the store, or on its way there, covers."""
        found = [self.covered_until_us, self.running.covered_until_us if self.running else None]
        return max((each for each in found if each is not None), default=None)

    def mark(self, token: str) -> Mark:
        running = self.running._asdict() if self.running else None
        return Mark(token, self._asdict() | {"running": running})


def known(mark: Mark | None) -> Known:
    """What a store's mark says; nothing, if another Kuberec wrote it that says it otherwise."""
    if mark is None:
        return Known()
    content: dict[str, Any] = {name: mark.content.get(name) for name in Known._fields}
    running = content.pop("running")
    if isinstance(running, Mapping):
        if set(running) != set(Running._fields):
            return Known(covered_until_us=content["covered_until_us"])
        running = Running(**running)
    return Known(**content, running=running or None)


def hashes(folder: Path, view: str, token: str) -> Path:
    """Of a store's rows, in a feature store's folder."""
    return Path(folder) / "materialized" / f"{view}-{token}.parquet"


def note(folder: Path, view: str, token: str, now_known: Known) -> None:
    """Say in materialized.json what was materialised, for people; and drop older hashes."""
    path = Path(folder) / "materialized.json"
    said = dict(read_json(path)) if path.is_file() else {}
    names = ("at", "rows", "covered_until_us", "offline_fingerprint")
    said[view] = {name: getattr(now_known, name) for name in names}
    write_json(path, said)
    keep = hashes(folder, view, token)
    for old in keep.parent.glob(f"{view}-*.parquet"):
        if old != keep:
            old.unlink(missing_ok=True)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
