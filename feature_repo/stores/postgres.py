"""Rows in Feast's PostgreSQL store: a table a view, of which each feature is a row.

A row that is not there yet cannot be locked. So writers take advisory locks of the transaction for
a row's key, in one order, before they look; each writer of this module does. Rows that are there
are locked too (FOR UPDATE), which also holds up Feast's own writers.
"""

import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
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
from feature_repo.stores.postgres_client import PostgresClient

_LOCKS = 64  # keys share locks: the server has room for some 6,000 in all
_MARKS, _NOTES = "kuberec_materialized", "kuberec_live"
_AT_ONCE = 5000  # notes


class PostgresRows:
    """One view's rows in PostgreSQL; see feature_repo.stores.base.BulkRows."""

    def __init__(self, config: Any, layout: ViewLayout, place: str) -> None:
        """`config` is the feast.RepoConfig, `place` what messages call the store."""
        from psycopg import sql

        self._layout = layout
        self._place = place
        self._client = PostgresClient(config.online_store, place)
        self._table = sql.Identifier(layout.table)
        self._numbers, self._vector = False, "bytea"
        self._client.attempt(self._look)

    def _look(self, cursor: Any) -> None:
        """What columns there are; and a table for marks, if need be."""
        cursor.execute(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            ('"' + self._layout.table.replace('"', '""') + '"',),
        )
        columns = dict(cursor.fetchall())
        if not columns:
            raise StoreDown(f"{self._place} has no table '{self._layout.table}': apply it first")
        self._numbers = "value_num" in columns
        self._vector = columns.get("vector_value", "bytea")
        cursor.execute("SELECT to_regclass(%s), to_regclass(%s)", (_MARKS, _NOTES))
        if None in cursor.fetchone():
            # IF NOT EXISTS alone does not hold between two that create it at once.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (zlib.crc32(_MARKS.encode()),))
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {_MARKS} "
                "(name text PRIMARY KEY, token text NOT NULL, content text NOT NULL)"
            )
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {_NOTES} (name text, entity_key bytea, "
                "note text NOT NULL, PRIMARY KEY (name, entity_key))"
            )

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        keys = [self._layout.key(each) for each in ids]
        return list(self._client.attempt(partial(self._read, keys=keys, lock="")))

    def _read(self, cursor: Any, keys: Sequence[bytes], lock: str) -> list[OnlineRow | None]:
        from psycopg import sql

        query = sql.SQL(
            "SELECT entity_key, feature_name, value, event_ts FROM {} "
            "WHERE entity_key = ANY(%s) ORDER BY entity_key, feature_name " + lock
        )
        stored: dict[bytes, dict[str, bytes]] = {}
        times: dict[bytes, Any] = {}
        for key, feature, value, moment in cursor.execute(query.format(self._table), [list(keys)]):
            stored.setdefault(bytes(key), {})[feature] = bytes(value)
            times[bytes(key)] = moment
        return [
            OnlineRow(self._from_feast(times[key]), self._layout.decode(stored[key]))
            if key in stored
            else None
            for key in keys
        ]

    def change(self, ids: Sequence[str], new: Change, live: bool = False) -> int:
        keys = [self._layout.key(each) for each in unique(ids)]
        return int(self._client.attempt(partial(self._change, keys=keys, new=new, live=live)))

    def _change(self, cursor: Any, keys: Sequence[bytes], new: Change, live: bool) -> int:
        self._lock(cursor, keys)
        rows = new(self._read(cursor, keys, "FOR UPDATE"))
        gone = [key for key, row in zip(keys, rows, strict=True) if row is NO_ROW]
        if gone:
            self._delete(cursor, gone)
        # Rows with the same features go together.
        groups: dict[tuple[str, ...], list[tuple[bytes, OnlineRow]]] = {}
        for key, row in zip(keys, rows, strict=True):
            if row is not None and row is not NO_ROW:
                groups.setdefault(tuple(row.values), []).append((key, row))
        for names, group in groups.items():
            encoded = [self._layout.encode(row.values) for _, row in group]
            columns = {name: [each[name] for each in encoded] for name in names}
            times = [to_us(row.event_time) for _, row in group]
            self._upsert(cursor, [key for key, _ in group], times, columns)
        if live:
            written = sorted(key for key, row in zip(keys, rows, strict=True) if row is not None)
            cursor.execute(
                f"INSERT INTO {_NOTES} SELECT %s, unnest(%s::bytea[]), %s "
                "ON CONFLICT (name, entity_key) DO UPDATE SET note = EXCLUDED.note",
                (self._layout.table, written, uuid.uuid4().hex),
            )
        return sum(row is not None for row in rows)

    def _lock(self, cursor: Any, keys: Sequence[bytes]) -> None:
        """Of all writers of these rows one at a time, until its transaction ends."""
        view = zlib.crc32(self._layout.table.encode()) & 0x7FFFFFFF
        for number in sorted({zlib.crc32(key) % _LOCKS for key in keys}):
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (view, number))

    def _upsert(
        self, cursor: Any, keys: Sequence[bytes], times_us: Sequence[int], columns: Any
    ) -> None:
        """Copy into a table of the transaction, and from there insert or update: one round trip."""
        from psycopg import sql

        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS kuberec_rows (entity_key bytea, feature_name "
            "text, value bytea, value_text text, value_num double precision, vector text, "
            "event_ts timestamptz) ON COMMIT DELETE ROWS"
        )
        cursor.execute("DELETE FROM kuberec_rows")
        with cursor.copy("COPY kuberec_rows FROM STDIN") as copy:
            for row in self._tuples(keys, times_us, columns):
                copy.write_row(row)
        names = ["value", "value_text", "vector_value", "event_ts", "created_ts"]
        if self._numbers:
            names.insert(2, "value_num")
        vector = "vector::vector" if self._vector == "vector" else "NULL::bytea"
        number = "value_num, " if self._numbers else ""
        update = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
        cursor.execute(
            sql.SQL(
                f"INSERT INTO {{}} (entity_key, feature_name, {', '.join(names)}) "
                f"SELECT entity_key, feature_name, value, value_text, {number}{vector}, event_ts, "
                "NULL FROM kuberec_rows "
                f"ON CONFLICT (entity_key, feature_name) DO UPDATE SET {update}"
            ).format(self._table)
        )

    def _tuples(
        self, keys: Sequence[bytes], times_us: Sequence[int], columns: Any
    ) -> Iterator[tuple[Any, ...]]:
        for name, raws in columns.items():
            texts = self._layout.texts(name, raws)
            for key, us, raw, (text, number) in zip(keys, times_us, raws, texts, strict=True):
                vector = self._vector_text(name, raw)
                # Feast gives the time without a zone, and the server takes it for one of its own.
                moment = from_us(us).replace(tzinfo=None)
                yield key, name, raw, text, number, vector, moment

    def _vector_text(self, name: str, raw: bytes) -> str | None:
        """As Feast has it, of any list of numbers; an empty one is no vector, and fails there."""
        if self._vector != "vector" or not self._layout.types[name].endswith("_LIST"):
            return None
        from feast.infra.key_encoding_utils import get_list_val_str
        from feast.protos.feast.types.Value_pb2 import Value

        text = get_list_val_str(Value.FromString(raw))
        return text if text and text != "[]" else None

    def _from_feast(self, moment: Any) -> Any:
        """The time that `_tuples` was given."""
        from zoneinfo import ZoneInfo

        zone = self._client.timezone()
        return moment.astimezone(zone).replace(tzinfo=ZoneInfo("UTC"))

    def delete(self, ids: Sequence[str]) -> int:
        keys = [self._layout.key(each) for each in unique(ids)]

        def forget(cursor: Any) -> int:
            self._lock(cursor, keys)
            return self._delete(cursor, keys)

        return int(self._client.attempt(forget)) if keys else 0

    def _delete(self, cursor: Any, keys: Sequence[bytes]) -> int:
        from psycopg import sql

        query = sql.SQL("DELETE FROM {} WHERE entity_key = ANY(%s) RETURNING entity_key")
        cursor.execute(query.format(self._table), [list(keys)])
        return len({bytes(key) for (key,) in cursor.fetchall()})

    def noted(self) -> dict[str, str]:
        def every(cursor: Any) -> dict[str, str]:
            query = f"SELECT entity_key, note FROM {_NOTES} WHERE name = %s"
            cursor.execute(query, (self._layout.table,))
            return {self._layout.entity_id(bytes(key)): note for key, note in cursor.fetchall()}

        return dict(self._client.attempt(every))

    def settle(self, noted: Mapping[str, str]) -> None:
        ids = list(noted)
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            keys = [self._layout.key(each) for each in part]
            given = self._layout.table, keys, [noted[each] for each in part]
            query = (
                f"DELETE FROM {_NOTES} WHERE name = %s AND (entity_key, note) IN "
                "(SELECT * FROM unnest(%s::bytea[], %s::text[]))"
            )
            self._client.attempt(partial(_execute, query=query, given=given))

    def put(self, rows: EncodedRows, before_s: int | None, mark: Mark | None) -> list[int]:
        keys = [self._layout.key(each) for each in rows.ids]

        def write(cursor: Any) -> list[int]:
            self._lock(cursor, keys)
            if mark:
                self._check(cursor, mark)
            later = self._later(cursor, keys, before_s)
            places = [place for place, key in enumerate(keys) if key not in later]
            columns = {
                name: [column[place] for place in places] for name, column in rows.values.items()
            }
            times = [rows.times_us[place] for place in places]
            self._upsert(cursor, [keys[place] for place in places], times, columns)
            if mark:
                self._set_mark(cursor, mark)
            return [place for place, key in enumerate(keys) if key in later]

        return list(self._client.attempt(write))

    def _later(self, cursor: Any, keys: Sequence[bytes], before_s: int | None) -> set[bytes]:
        """Which of these rows are to stay."""
        from psycopg import sql

        since, parameters = "", [list(keys)]  # type: tuple[str, list[Any]]
        if before_s is not None:
            since = "AND event_ts >= %s"
            parameters.append(from_us(before_s * 1_000_000).replace(tzinfo=None))
        query = "SELECT entity_key FROM {} WHERE entity_key = ANY(%s) " + since + " FOR UPDATE"
        cursor.execute(sql.SQL(query).format(self._table), parameters)
        return {bytes(key) for (key,) in cursor.fetchall()}

    def mark(self) -> Mark | None:
        found = self._client.attempt(self._mark)
        return Mark(found[0], json.loads(found[1])) if found else None

    def _mark(self, cursor: Any) -> Any:
        query = f"SELECT token, content FROM {_MARKS} WHERE name = %s FOR UPDATE"
        return cursor.execute(query, (self._layout.table,)).fetchone()

    def claim(self, mark: Mark) -> None:
        self._client.attempt(lambda cursor: self._set_mark(cursor, mark))

    def _set_mark(self, cursor: Any, mark: Mark) -> None:
        cursor.execute(
            f"INSERT INTO {_MARKS} VALUES (%s, %s, %s) ON CONFLICT (name) DO UPDATE "
            "SET token = EXCLUDED.token, content = EXCLUDED.content",
            (self._layout.table, mark.token, json.dumps(mark.content)),
        )

    def _check(self, cursor: Any, mark: Mark) -> None:
        found = self._mark(cursor)
        if not found or found[0] != mark.token:
            raise TakenOver(
                f"{self._place}: another materialisation of '{self._layout.view}' has begun: "
                "run this again when it has ended"
            )

    def ids(self) -> Sequence[str]:
        from psycopg import sql

        def every(cursor: Any) -> list[str]:
            cursor.execute(sql.SQL("SELECT DISTINCT entity_key FROM {}").format(self._table))
            return sorted(self._layout.entity_id(bytes(key)) for (key,) in cursor.fetchall())

        return list(self._client.attempt(every))

    def close(self) -> None:
        self._client.close()


def _execute(cursor: Any, query: str, given: tuple[Any, ...]) -> None:
    cursor.execute(query, given)
