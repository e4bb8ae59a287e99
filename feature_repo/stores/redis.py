"""Rows in Feast's Redis store: a hash an entity, in which each feature of a view is a field.

Writes are compare-and-set scripts, one a row and many in a pipeline: a script runs alone, so
nothing comes between its look at a row and its write; and no row's writer waits for another's, as
with WATCH on one connection. A script names one entity's key, so all of it works on a cluster too.
"""

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar

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

_AT_ONCE = 500  # rows in one pipeline
_A_SCRIPT = 20  # rows written by one script: nobody else is served while it runs
_TRIES = 6  # at a server that does not answer, some 3 s in all
_TIMEOUT_S = 10.0  # of a server that takes commands and is silent, if the settings say nothing
_PAUSE_S = 0.1

# A row is replaced if it is what was read: the hash over its fields says so.
# KEYS: row. ARGV: hash, seconds to live or 0, number of fields read, these, then field, value, …;
# without values the fields that were read are deleted.
_CHANGE = """
local n = tonumber(ARGV[3])
local fields = {}
for i = 1, n do fields[i] = ARGV[3 + i] end
local parts = {}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(fields))) do
  parts[i] = value and ('+' .. #value .. ':' .. value) or '-'
end
if redis.sha1hex(table.concat(parts)) ~= ARGV[1] then return 0 end
if #ARGV == 3 + n then redis.call('HDEL', KEYS[1], unpack(fields)) return 1 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4 + n))
if ARGV[2] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
# Rows are written where there is none, or its event time (a protobuf Timestamp: 0x08, then seconds
# as a varint) is before a second. KEYS: rows, and where that is possible the mark. ARGV: token or
# '', that second or '', seconds to live or 0, number of rows, number of fields, these, the time's
# first, then each row's values.
_PUT = """
local rows, n = tonumber(ARGV[4]), tonumber(ARGV[5])
if #KEYS > rows and redis.call('HGET', KEYS[rows + 1], 'token') ~= ARGV[1] then return {-1} end
local function before(stored)
  if ARGV[2] == '' then return false end
  local seconds = 0
  if string.byte(stored, 1) == 8 then
    local scale, place = 1, 2
    repeat
      local byte = string.byte(stored, place)
      seconds = seconds + (byte % 128) * scale
      scale, place = scale * 128, place + 1
    until byte < 128
    if place > 11 then seconds = -1 end
  end
  return seconds < tonumber(ARGV[2])
end
local written, pairs_of_row = {}, {}
for field = 1, n do pairs_of_row[2 * field - 1] = ARGV[5 + field] end
for row = 1, rows do
  local stored = redis.call('HGET', KEYS[row], ARGV[6])
  written[row] = (not stored or before(stored)) and 1 or 0
  if written[row] == 1 then
    local start = 5 + n * row
    for field = 1, n do pairs_of_row[2 * field] = ARGV[start + field] end
    redis.call('HSET', KEYS[row], unpack(pairs_of_row))
    if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[row], ARGV[3]) end
  end
end
return written
"""
_MARK = """
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'content', ARGV[2])
return 1
"""


class RedisRows:
    """One view's rows in Redis; see feature_repo.stores.base.BulkRows."""

    _hashes: ClassVar[dict[str, str]] = {
        script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        for script in (_CHANGE, _PUT, _MARK)
    }

    def __init__(self, config: Any, layout: ViewLayout, place: str) -> None:
        """`config` is the feast.RepoConfig, `place` what messages call the store."""
        from feast.infra.online_stores.helpers import _mmh3
        from feast.infra.online_stores.redis import RedisOnlineStore

        self._layout = layout
        self._place = place
        self._ttl = str(config.online_store.key_ttl_seconds or 0)
        self._project = layout.project.encode()
        self._cluster = config.online_store.redis_type == "redis_cluster"
        self._time_field = f"_ts:{layout.name}".encode()
        self._fields = {name: _mmh3(f"{layout.name}:{name}") for name in layout.features}
        self._read_fields = [self._time_field, *self._fields.values()]
        self._mark_key = f"kuberec:materialized:{layout.table}"
        with self._down():
            self._client = RedisOnlineStore()._get_client(config.online_store)
            self._set_limits()

    def _set_limits(self) -> None:
        """The client would try for half a minute by itself, and wait for ever."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if not self._cluster:
            self._client.set_retry(Retry(NoBackoff(), 0))
            settings = self._client.connection_pool.connection_kwargs
            for name in ("socket_timeout", "socket_connect_timeout"):
                if settings.get(name) is None:
                    settings[name] = _TIMEOUT_S

    def _key(self, entity_id: str) -> bytes:
        return self._layout.key(entity_id) + self._project

    def read(self, ids: Sequence[str]) -> list[OnlineRow | None]:
        return [self._row(stored) for stored in self._stored(list(ids))]

    def _stored(self, ids: Sequence[str]) -> list[list[bytes | None]]:
        found: list[list[bytes | None]] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            found += self._pipeline(
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

    def change(self, ids: Sequence[str], new: Change) -> int:
        ids = unique(ids)
        stored = self._stored(ids)
        left = list(range(len(ids)))
        written = 0
        pause = _PAUSE_S / 20
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
                arguments = (_digest(stored[place]), self._ttl, *fields, *values)
                commands.append(self._script(_CHANGE, [self._key(ids[place])], arguments))
            answers = self._pipeline(commands, [_CHANGE])
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
            answers = self._pipeline(
                [("HDEL", self._key(each), *self._read_fields) for each in part]
            )
            count += sum(answer > 0 for answer in answers)
        return count

    def put(self, rows: EncodedRows, before_s: int | None, mark: Mark | None) -> list[int]:
        if self._cluster and mark:  # its key lies elsewhere, so it is checked once for all rows
            self._own(mark)
        fields = [self._time_field, *(self._fields[name] for name in rows.values)]
        head = (mark.token if mark else "", "" if before_s is None else before_s, self._ttl)
        mark_key = [self._mark_key] if mark and not self._cluster else []
        size = 1 if self._cluster else _A_SCRIPT  # keys of one script lie on one node
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
                commands.append(self._script(_PUT, [*keys, *mark_key], arguments))
            written = list(chain.from_iterable(self._pipeline(commands, [_PUT])))
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
            "store was emptied meanwhile"
        )

    def mark(self) -> Mark | None:
        ((token, content),) = self._pipeline([("HMGET", self._mark_key, "token", "content")])
        return Mark(token.decode(), json.loads(content)) if token and content else None

    def claim(self, mark: Mark) -> None:
        self._set_mark(mark, checked=False)

    def _set_mark(self, mark: Mark, checked: bool) -> None:
        arguments = (mark.token, json.dumps(mark.content), "checked" if checked else "")
        (done,) = self._pipeline([self._script(_MARK, [self._mark_key], arguments)], [_MARK])
        if not done:
            raise self._taken()

    def ids(self) -> Sequence[str]:
        found = set()
        prefix = self._layout.key("")[:-8]
        with self._down():
            keys = self._client.scan_iter(_escape(prefix) + b"*" + _escape(self._project), 1000)
            found = {
                self._layout.entity_id(key.removesuffix(self._project))
                for key in keys
                if key.startswith(prefix)
            }
        return sorted(found)

    def close(self) -> None:
        self._client.close()

    def _script(
        self, script: str, keys: Sequence[Any], arguments: Sequence[Any]
    ) -> tuple[Any, ...]:
        if self._cluster:  # EVALSHA is not allowed in its pipelines
            return ("EVAL", script, len(keys), *keys, *arguments)
        return ("EVALSHA", self._hashes[script], len(keys), *keys, *arguments)

    def _pipeline(
        self, commands: Sequence[tuple[Any, ...]], scripts: Sequence[str] = ()
    ) -> list[Any]:
        """Each command's answer. Run anew while the server does not answer: all may be repeated."""
        if not commands:
            return []
        loads = [] if self._cluster else [("SCRIPT LOAD", script) for script in scripts]
        with self._down():
            for attempt in range(_TRIES):
                try:
                    with self._client.pipeline(transaction=False) as pipe:
                        for command in (*loads, *commands):
                            pipe.execute_command(*command)
                        return list(pipe.execute()[len(loads) :])
                except _blips():
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.7, 1.3))
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreDown(
                f"{self._place} does not answer as it should ({type(error).__name__}: {error}): "
                "check that it runs, can be reached from here, and that its connection string and "
                "password are right; then run this again"
            ) from error


def _blips() -> tuple[type[BaseException], ...]:
    from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

    return ConnectionError, TimeoutError, BusyLoadingError, OSError


def timestamp_bytes(us: int) -> bytes:
    """A google.protobuf.Timestamp of microseconds since 1970."""
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, rest = divmod(us, 1_000_000)
    return bytes(Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString())


def _digest(stored: Sequence[bytes | None]) -> str:
    """As the script has it."""
    parts = (b"-" if raw is None else b"+%d:%b" % (len(raw), raw) for raw in stored)
    return hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest()


def _escape(raw: bytes) -> bytes:
    """Bytes that a pattern of SCAN is to take as they are."""
    return b"".join(b"\\" + bytes([each]) if each in b"*?[]\\^-" else bytes([each]) for each in raw)
