"""What was read of which partition: exactly once for each content, whatever is killed when.

A state folder has `ledger.json` and the rows of every partition as read, `increments/*.parquet`.
A file is complete before the ledger names it, and goes only after the ledger has stopped to do so;
what it does not name was left by a killed run. So at any time what the ledger says is there.
"""

import fcntl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import pyarrow.parquet as pq

from ingestion.errors import IngestError
from recommender.files import atomic_file, ensure_writable, fingerprint, read_json, write_json

LEDGER, INCREMENTS = "ledger.json", "increments"


@dataclass(frozen=True)
class Entry:
    """One partition."""

    content: str  # fingerprint of its files
    reading: str  # fingerprint of the settings that it was read with
    file: str  # in the folder of increments
    rows: int
    notes: Any = None  # what its maker wants to know again, as JSON
    newest: str | None = None  # ISO time of its newest event in the last snapshot


class Ledger:
    """The increments of one source.

    Attributes:
        read: partitions that this run read, since they were new or had changed.
    """

    def __init__(self, state: Path, reading: str, key_id: str | None = None) -> None:
        """Open the ledger of a state folder, or begin one.

        Args:
            reading: fingerprint of the settings that decide what is staged of a file; what was
                staged with other ones is staged anew.
            key_id: of the key of pseudonyms; None without one.

        Raises:
            IngestError: the increments that are there have ids under another key; another process
                has the ledger open.
        """
        self.read: list[str] = []
        self._state = Path(state)
        self._folder = ensure_writable(self._state / INCREMENTS)
        self._lock = self._alone()
        self._reading, self._key = reading, key_id
        self._entries: dict[str, Entry] = {}
        path = self._state / LEDGER
        if path.is_file():
            content = read_json(path)
            self._entries = {name: Entry(**each) for name, each in content["partitions"].items()}
            if self._entries and content["key_id"] != key_id:
                raise IngestError(self._two_keys(content["key_id"]))
        self._sweep()

    def close(self) -> None:
        """Let another run in; the end of the process does, too."""
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Every partition that is staged, by name."""
        return dict(self._entries)

    @property
    def watermark(self) -> datetime | None:
        """The newest event of the last snapshot; None before the first."""
        moments = [each.newest for each in self._entries.values() if each.newest]
        return max(map(datetime.fromisoformat, moments), default=None)

    def staged(self, name: str, content: str, make: Callable[[Path], Any]) -> Path:
        """Where the rows of a partition lie as parquet: as they are, if its content is.

        Args:
            name: of the partition.
            content: fingerprint of its files.
            make: writes the rows to a path, and returns notes; what it raises leaves the ledger as
                it was.
        """
        entry = self._entries.get(name)
        wanted = (content, self._reading)
        if entry and (entry.content, entry.reading) == wanted and self._is_there(entry):
            return self._folder / entry.file
        stem = fingerprint([name, content, self._reading, self._key])[:32]
        target = self._folder / f"{stem}.parquet"
        with atomic_file(target) as draft:
            notes = make(draft)
            rows = pq.read_metadata(draft).num_rows
        self._entries[name] = Entry(content, self._reading, target.name, rows, notes)
        self._save()
        if entry and entry.file != target.name:
            (self._folder / entry.file).unlink(missing_ok=True)
        self.read.append(name)
        return target

    def gone(
        self, present: Iterable[str], removed: Literal["error", "drop", "keep"]
    ) -> dict[str, Path]:
        """What becomes of partitions that have no files any more.

        Args:
            present: partitions that have files.
            removed: as `source.incremental.removed`.

        Returns:
            Partition: its staged rows, of those that stay.

        Raises:
            IngestError: there are such, and that is an error; or one that is to stay was read
                with other settings.
        """
        missing = sorted(self._entries.keys() - set(present))
        if missing and removed == "error":
            raise IngestError(self._missing(missing))
        if removed == "keep":
            for name in missing:
                entry = self._entries[name]
                if entry.reading != self._reading or not self._is_there(entry):
                    raise IngestError(
                        f"events: the files of partition '{name}' are gone, and what was read of "
                        "them is missing, or was read with other settings of source.events or "
                        "source.privacy.drop_columns; put the settings or the files back, or set "
                        "source.incremental.removed to drop"
                    )
            return {name: self._folder / self._entries[name].file for name in missing}
        for name in missing:
            entry = self._entries.pop(name)
            self._save()
            (self._folder / entry.file).unlink(missing_ok=True)
        return {}

    def note_newest(self, newest: Mapping[str, datetime]) -> None:
        """After a snapshot: the time of the newest event of each partition that has any in it."""
        for name, entry in self._entries.items():
            moment = newest.get(name)
            stamp = moment.astimezone(UTC).isoformat() if moment else None
            self._entries[name] = replace(entry, newest=stamp)
        self._save()

    def _save(self) -> None:
        partitions = {name: asdict(entry) for name, entry in self._entries.items()}
        write_json(self._state / LEDGER, {"key_id": self._key, "partitions": partitions})

    def _sweep(self) -> None:
        """Remove what a killed run left: files that the ledger does not name."""
        named = {entry.file for entry in self._entries.values()}
        for file in self._folder.iterdir():
            if file.name not in named:
                file.unlink(missing_ok=True)

    def _alone(self) -> TextIO:
        lock = (self._state / "ledger.lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise IngestError(
                f"another ingestion uses the increments in '{self._state}': wait for its end"
            ) from error
        return lock

    def _is_there(self, entry: Entry) -> bool:
        return (self._folder / entry.file).is_file()

    def _missing(self, names: list[str]) -> str:
        rows = sum(self._entries[name].rows for name in names)
        some = ", ".join(f"'{name}'" for name in names[:5]) + (" ..." if names[5:] else "")
        return (
            f"events: {len(names)} partitions that were read before have no files any more: {some} "
            f"({rows:,} rows). Put the files back; or set source.incremental.removed to drop "
            "(their events go) or keep (they stay as they were read)"
        )

    def _two_keys(self, other: str | None) -> str:
        def said(key: str | None) -> str:
            return f"pseudonyms under key {key}" if key else "user ids as they are"

        return (
            f"events: the increments in '{self._folder}' have {said(other)}, and this run has "
            f"{said(self._key)}; in one snapshot a user would be two. Set the key that was, or to "
            f"go over to this one remove '{self._folder}' and '{self._state / LEDGER}': everything "
            "is then read again (docs/data/privacy.md, rotation)"
        )
