"""Rows in Feast's SQLite store: a table a view, of which each feature is a row.

Writers queue for the database's one write lock, so what is read after BEGIN IMMEDIATE is what is
replaced; readers are not held up (write-ahead log).
"""

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_repo.stores.base import (
    NO_ROW,
    Change,
    EncodedRows,
    Mark,
    OnlineRow,
    StoreDown,
    TakenOver,
)
from feature_repo.stores.layout import ViewLayout, from_us, to_us, unique

_BUSY_S = 30.0
_AT_ONCE = 500  # keys in one query
# Feast stores times as if UTC were the machine's zone, where an hour may be there twice.
_MARGIN_S = 3600
# Keys come from all over the index: a small cache would write its pages again and again.
_CACHE_KIB, _LOG_PAGES = 64 * 1024, 16_000
Columns = Mapping[str, Sequence[bytes]]  # by feature
_MARKS, _NOTES = "kuberec_materialized", "kuberec_live"


class SqliteRows:
    """One view's rows in a SQLite file of Feast's; see feature_repo.stores.base.BulkRows."""

    def __init__(self, path: Path, layout: ViewLayout) -> None:
        self._path = Path(path)
        self._layout = layout
        self._place = f"online store '{self._path}'"
        with self._down():
            self._database = sqlite3.connect(
                f"file:{self._path.absolute()}?mode=rw",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if self._database.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                self._database.execute("PRAGMA journal_mode=WAL").fetchall()
            self._database.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            self._database.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}").fetchall()
            self._database.execute(
                f"CREATE TABLE IF NOT EXISTS {_MARKS} "
                "(name TEXT PRIMARY KEY, token TEXT, content TEXT)"
            )
            self._database.execute(
                f"CREATE TABLE IF NOT EXISTS {_NOTES} "
                "(name TEXT, entity_key BLOB, note TEXT, PRIMARY KEY (name, entity_key))"
            )
            columns = self._database.execute(f"PRAGMA table_info({self._table})").fetchall()
            self._numbers = "value_num" in {column[1] for column in columns}

    @property
    def _table(self) -> str:
        return '"' + self._layout.table.replace('"', '""') + '"'

    def _write(self, keys: Sequence[bytes], times_us: Sequence[int], columns: Columns) -> None:
        """Insert or update rows, all of an entity's features by one statement."""
        if not keys or not columns:
            return
        given: list[Iterable[Any]] = [keys, [_to_feast(us) for us in times_us]]  # ?1 and ?2
        values = []
        for name, raws in columns.items():
            given.append(raws)
            value, text, number = f"?{len(given)}", "NULL", "NULL"
            if name in self._layout.with_text:
                texts, numbers = zip(*self._layout.texts(name, raws), strict=True)
                given.append(texts)
                text = f"?{len(given)}"
                if self._numbers:
                    given.append(numbers)
                    number = f"?{len(given)}"
            feature = "'" + name.replace("'", "''") + "'"
            extra = f", {number}" if self._numbers else ""
            values.append(f"(?1, {feature}, {value}, {text}{extra}, ?2, NULL)")
        names = ["value", "value_text", *(["value_num"] if self._numbers else [])]
        names += ["event_ts", "created_ts"]
        update = ", ".join(f"{name} = excluded.{name}" for name in names)
        self._database.executemany(
            f"INSERT INTO {self._table} (entity_key, feature_name, {', '.join(names)}) "
            f"VALUES {', '.join(values)} "
            f"ON CONFLICT(entity_key, feature_name) DO UPDATE SET {update}",
            zip(*given, strict=True),
        )

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        with self._down():
            return self._read([self._layout.key(each) for each in ids])

    def _read(self, keys: Sequence[bytes]) -> list[OnlineRow | None]:
        stored: dict[bytes, dict[str, bytes]] = {}
        times: dict[bytes, int] = {}
        for part in _parts(list(keys)):
            for key, feature, value, seconds in self._database.execute(
                f"SELECT entity_key, feature_name, value, event_ts FROM {self._table} "
                f"WHERE entity_key IN ({','.join('?' * len(part))})",
                part,
            ):
                stored.setdefault(key, {})[feature] = value
                times[key] = seconds
        return [
            OnlineRow(_from_feast(times[key]), self._layout.decode(stored[key]))
            if key in stored
            else None
            for key in keys
        ]

    def change(self, ids: Sequence[str], new: Change, live: bool = False) -> int:
        keys = [self._layout.key(each) for each in unique(ids)]
        with self._down(), self._transaction():
            rows = new(self._read(keys))
            for key, row in zip(keys, rows, strict=True):
                if row is NO_ROW:
                    self._delete([key])
                elif row is not None:
                    encoded = self._layout.encode(row.values)
                    columns = {name: [raw] for name, raw in encoded.items()}
                    self._write([key], [to_us(row.event_time)], columns)
            if live:
                written = [key for key, row in zip(keys, rows, strict=True) if row is not None]
                note = uuid.uuid4().hex
                self._database.executemany(
                    f"INSERT OR REPLACE INTO {_NOTES} VALUES (?, ?, ?)",
                    [(self._layout.table, key, note) for key in written],
                )
        return sum(row is not None for row in rows)

    def delete(self, ids: Sequence[str]) -> int:
        count = 0
        for part in _parts(unique(ids)):
            with self._down(), self._transaction():
                count += self._delete([self._layout.key(each) for each in part])
        return count

    def _delete(self, keys: Sequence[bytes]) -> int:
        where = f"entity_key IN ({','.join('?' * len(keys))})"
        (count,) = self._database.execute(
            f"SELECT count(DISTINCT entity_key) FROM {self._table} WHERE {where}", keys
        ).fetchone()
        self._database.execute(f"DELETE FROM {self._table} WHERE {where}", keys)
        return int(count)

    def noted(self) -> dict[str, str]:
        query = f"SELECT entity_key, note FROM {_NOTES} WHERE name = ?"
        with self._down():
            found = self._database.execute(query, (self._layout.table,)).fetchall()
        return {self._layout.entity_id(key): note for key, note in found}

    def settle(self, noted: Mapping[str, str]) -> None:
        with self._down(), self._transaction():
            self._database.executemany(
                f"DELETE FROM {_NOTES} WHERE name = ? AND entity_key = ? AND note = ?",
                [(self._layout.table, self._layout.key(each), noted[each]) for each in noted],
            )

    def put(self, rows: EncodedRows, before_s: int | None, mark: Mark | None) -> list[int]:
        keys = [self._layout.key(each) for each in rows.ids]
        # The last parts may be lost with the machine's power, and the marks of them with them.
        with self._down(), self._syncing("NORMAL" if mark else "FULL"), self._transaction():
            if mark:
                self._check(mark)
            later = self._later(keys, before_s)
            if later:
                places = [place for place, key in enumerate(keys) if key not in later]
                keys_in = [keys[place] for place in places]
                times = [rows.times_us[place] for place in places]
                columns = {
                    name: [column[place] for place in places]
                    for name, column in rows.values.items()
                }
                self._write(keys_in, times, columns)
            else:
                self._write(keys, rows.times_us, rows.values)
            if mark:
                self._set_mark(mark)
        return [place for place, key in enumerate(keys) if key in later] if later else []

    def _later(self, keys: Sequence[bytes], before_s: int | None) -> set[bytes]:
        """Which of these rows are to stay."""
        threshold = "" if before_s is None else "AND event_ts >= ?"
        found: set[bytes] = set()
        if not self._database.execute(f"SELECT 1 FROM {self._table} LIMIT 1").fetchone():
            return found
        for part in _parts(list(keys)):
            limit = [] if before_s is None else [_to_feast(before_s * 1_000_000) - _MARGIN_S]
            found.update(
                key
                for (key,) in self._database.execute(
                    f"SELECT DISTINCT entity_key FROM {self._table} WHERE entity_key IN "
                    f"({','.join('?' * len(part))}) {threshold}",
                    [*part, *limit],
                )
            )
        return found

    def mark(self) -> Mark | None:
        with self._down():
            found = self._database.execute(
                f"SELECT token, content FROM {_MARKS} WHERE name = ?", (self._layout.table,)
            ).fetchone()
        return Mark(found[0], json.loads(found[1])) if found else None

    def claim(self, mark: Mark) -> None:
        with self._down(), self._transaction():
            self._set_mark(mark)

    def _set_mark(self, mark: Mark) -> None:
        self._database.execute(
            f"INSERT OR REPLACE INTO {_MARKS} VALUES (?, ?, ?)",
            (self._layout.table, mark.token, json.dumps(mark.content)),
        )

    def _check(self, mark: Mark) -> None:
        found = self._database.execute(
            f"SELECT token FROM {_MARKS} WHERE name = ?", (self._layout.table,)
        ).fetchone()
        if not found or found[0] != mark.token:
            raise TakenOver(
                f"{self._place}: another materialisation of '{self._layout.view}' has begun: "
                "run this again when it has ended"
            )

    def ids(self) -> Sequence[str]:
        with self._down():
            keys = self._database.execute(f"SELECT DISTINCT entity_key FROM {self._table}")
            return sorted(self._layout.entity_id(key) for (key,) in keys)

    def close(self) -> None:
        self._database.close()

    @contextlib.contextmanager
    def _syncing(self, how: str) -> Iterator[None]:
        self._database.execute(f"PRAGMA synchronous={how}")
        try:
            yield
        finally:
            self._database.execute("PRAGMA synchronous=FULL")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreDown(
                f"{self._place} cannot be used ({error}): check that the file is there and can "
                f"be written, and that no process holds its lock for {_BUSY_S:.0f} s; "
                "then run this again"
            ) from error


def _parts(listed: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(listed), _AT_ONCE):
        yield listed[start : start + _AT_ONCE]


def _to_feast(us: int) -> int:
    """As Feast's adapter has it: a naive UTC time, taken for one of this machine's zone."""
    return int(from_us(us).replace(tzinfo=None).timestamp())


def _from_feast(seconds: int) -> datetime:
    """As Feast's converter and `online_read` have it."""
    return datetime.fromtimestamp(int(seconds)).replace(tzinfo=UTC)
