"""Rows in Feast's Redis store: a hash an entity, in which each feature of a view is a field.

Writes are scripts that look at a row and write it, many in a pipeline. A script runs alone, so
nothing comes between; and a row that another writer changed holds up no other, as it would with
WATCH on one connection. On a cluster a script names the key of one row.
"""

import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from feature_repo.stores.base import (
    NO_ROW,
    Change,
    EncodedRows,
    Mark,
    OnlineRow,
    TakenOver,
)
from feature_repo.stores.layout import ViewLayout, from_us, to_us, unique
from feature_repo.stores.redis_client import RedisClient
from feature_repo.stores.redis_scripts import (
    CHANGE,
    MARK,
    PUT,
    SETTLE,
    digest,
    escape,
    timestamp_bytes,
)

_PAUSE_S = 0.005  # after another writer was faster, at first
_AT_ONCE = 500  # rows in one pipeline
_A_SCRIPT = 20  # rows written by one script: nobody else is served while it runs


def notes_key(project: str, view: str) -> str:
    """Where ids of rows with live events are: a hash of them, see BulkRows.noted."""
    return f"kuberec:live:{project}:{view}"


class RedisRows:
    """One view's rows in Redis; see feature_repo.stores.base.BulkRows."""

    def __init__(self, config: Any, layout: ViewLayout, place: str) -> None:
        """`config` is the feast.RepoConfig, `place` what messages call the store."""
        from feast.infra.online_stores.helpers import _mmh3

        self._layout = layout
        self._place = place
        self._ttl = str(config.online_store.key_ttl_seconds or 0)
        self._project = layout.project.encode()
        self._time_field = f"_ts:{layout.name}".encode()
        self._fields = {name: _mmh3(f"{layout.name}:{name}") for name in layout.features}
        self._read_fields = [self._time_field, *self._fields.values()]
        self._mark_key = f"kuberec:materialized:{layout.table}"
        self._notes_key = notes_key(layout.project, layout.view)
        self._client = RedisClient(config.online_store, place)

    def _key(self, entity_id: str) -> bytes:
        return self._layout.key(entity_id) + self._project

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        return [self._row(stored) for stored in self._stored(list(ids))]

    def _stored(self, ids: Sequence[str]) -> list[list[bytes | None]]:
        found: list[list[bytes | None]] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            found += self._client.run(
                [("HMGET", self._key(each), *self._read_fields) for each in part]
            )
        return found

    def _row(self, stored: Sequence[bytes | None]) -> OnlineRow | None:
        from google.protobuf.timestamp_pb2 import Timestamp

        raw_time, *raws = stored
        if raw_time is None and not any(raw is not None for raw in raws):
            return None
        moment = Timestamp.FromString(raw_time or b"")
        present = {
            name: raw for name, raw in zip(self._fields, raws, strict=True) if raw is not None
        }
        us = moment.seconds * 1_000_000 + moment.nanos // 1000
        return OnlineRow(from_us(us), self._layout.decode(present))

    def change(self, ids: Sequence[str], new: Change, live: bool = False) -> int:
        ids = unique(ids)
        if not live:
            return self._change_all(ids, new)
        # A row and its note are two keys: noted before, whoever dies leaves the note; and after,
        # since a materialisation may have settled the first one before the row was written.
        self._note(ids)
        written = self._change_all(ids, new)
        self._note(ids)
        return written

    def _note(self, ids: Sequence[str]) -> None:
        if ids:
            note = uuid.uuid4().hex
            pairs = chain.from_iterable((each.encode(), note) for each in ids)
            self._client.run([("HSET", self._notes_key, *pairs)])

    def noted(self) -> dict[str, str]:
        found: dict[str, str] = {}
        cursor: Any = 0
        while True:  # in parts: HGETALL of a million would hold up all others
            ((cursor, fields),) = self._client.run(
                [("HSCAN", self._notes_key, cursor, "COUNT", 1000)]
            )
            found |= {each.decode(): note.decode() for each, note in fields.items()}
            if int(cursor) == 0:
                return found

    def settle(self, noted: Mapping[str, str]) -> None:
        ids = list(noted)
        parts = (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
        for part in parts:
            pairs = list(chain.from_iterable((each.encode(), noted[each]) for each in part))
            self._client.run([self._client.script(SETTLE, [self._notes_key], pairs)], [SETTLE])

    def _change_all(self, ids: list[str], new: Change) -> int:
        stored = self._stored(ids)
        left = list(range(len(ids)))
        written = 0
        pause = _PAUSE_S
        while True:
            rows = new([self._row(each) for each in stored])
            lost = self._replace(ids, stored, rows, left)
            written += sum(rows[place] is not None for place in left) - len(lost)
            if not lost:
                return written
            # Others write to the same rows: make way, each for another while.
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 1.0)
            for place, found in zip(lost, self._stored([ids[n] for n in lost]), strict=True):
                stored[place] = found
            left = lost

    def _replace(
        self,
        ids: Sequence[str],
        stored: Sequence[Sequence[bytes | None]],
        rows: Sequence[OnlineRow | None],
        places: Sequence[int],
    ) -> list[int]:
        """Which of the rows at `places` another writer changed meanwhile."""
        changed = [place for place in places if rows[place] is not None]
        fields = (len(self._read_fields), *self._read_fields)
        lost: list[int] = []
        for start in range(0, len(changed), _AT_ONCE):
            part = changed[start : start + _AT_ONCE]
            commands = []
            for place in part:
                row = rows[place]
                values = [] if row is NO_ROW or row is None else self._pairs(row)
                arguments = (digest(stored[place]), self._ttl, *fields, *values)
                commands.append(self._client.script(CHANGE, [self._key(ids[place])], arguments))
            answers = self._client.run(commands, [CHANGE])
            lost += [place for place, answer in zip(part, answers, strict=True) if not answer]
        return lost

    def _pairs(self, row: OnlineRow) -> list[bytes]:
        values = [self._time_field, timestamp_bytes(to_us(row.event_time))]
        for name, raw in self._layout.encode(row.values).items():
            values += [self._fields[name], raw]
        return values

    def delete(self, ids: Sequence[str]) -> int:
        count = 0
        listed = unique(ids)
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            answers = self._client.run(
                [("HDEL", self._key(each), *self._read_fields) for each in part]
            )
            count += sum(answer > 0 for answer in answers)
        return count

    def put(self, rows: EncodedRows, before_s: int | None, mark: Mark | None) -> list[int]:
        if (
            self._client.cluster and mark
        ):  # its key lies elsewhere, so it is checked once for all rows
            self._own(mark)
        fields = [self._time_field, *(self._fields[name] for name in rows.values)]
        head = (mark.token if mark else "", "" if before_s is None else before_s, self._ttl)
        mark_key = [self._mark_key] if mark and not self._client.cluster else []
        size = 1 if self._client.cluster else _A_SCRIPT  # keys of one script lie on one node
        moments = [timestamp_bytes(us) for us in rows.times_us]
        left: list[int] = []
        for start in range(0, len(rows.ids), _AT_ONCE):
            commands = []
            for first in range(start, min(start + _AT_ONCE, len(rows.ids)), size):
                part = slice(first, min(first + size, start + _AT_ONCE))
                keys = [self._key(each) for each in rows.ids[part]]
                columns = (moments[part], *(column[part] for column in rows.values.values()))
                values = chain.from_iterable(zip(*columns, strict=True))
                arguments = (*head, len(keys), len(fields), *fields, *values)
                commands.append(self._client.script(PUT, [*keys, *mark_key], arguments))
            written = list(chain.from_iterable(self._client.run(commands, [PUT])))
            if -1 in written:
                raise self._taken()
            left += [start + place for place, done in enumerate(written) if not done]
        if mark:
            self._set_mark(mark, checked=True)
        return left

    def _own(self, mark: Mark) -> None:
        found = self.mark()
        if not found or found.token != mark.token:
            raise self._taken()

    def _taken(self) -> TakenOver:
        return TakenOver(
            f"{self._place}: another materialisation of '{self._layout.view}' has begun, or the "
            "store was emptied meanwhile: run this again when the other has ended"
        )

    def mark(self) -> Mark | None:
        ((token, content),) = self._client.run([("HMGET", self._mark_key, "token", "content")])
        return Mark(token.decode(), json.loads(content)) if token and content else None

    def claim(self, mark: Mark) -> None:
        self._set_mark(mark, checked=False)

    def _set_mark(self, mark: Mark, checked: bool) -> None:
        arguments = (mark.token, json.dumps(mark.content), "checked" if checked else "")
        (done,) = self._client.run([self._client.script(MARK, [self._mark_key], arguments)], [MARK])
        if not done:
            raise self._taken()

    def ids(self) -> Sequence[str]:
        prefix = self._layout.key("")[:-8]
        keys = self._client.scan(escape(prefix) + b"*" + escape(self._project), 1000)
        return sorted(
            {
                self._layout.entity_id(key.removesuffix(self._project))
                for key in keys
                if key.startswith(prefix)
            }
        )

    def close(self) -> None:
        self._client.close()
