"""All that a store has of the view user_history, as one number; and some of its rows."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from feature_repo.stores.layout import ViewLayout

_AT_ONCE = 1000
Row = tuple[bytes, list[tuple[bytes, ...]]]  # key, and its fields with what is kept of each


def digest(rows: Iterable[Row]) -> tuple[int, str]:
    """Rows, and the sum of their hashes: in any order the same."""
    count = total = 0
    for key, fields in rows:
        parts = b"".join(b"%d:%b" % (len(part), part) for field in fields for part in field)
        total += int.from_bytes(hashlib.sha256(b"%d:%b" % (len(key), key) + parts).digest())
        count += 1
    return count, f"{total % 2**256:064x}"


def sqlite_rows(path: Path) -> Iterator[Row]:
    query = (
        "SELECT entity_key, feature_name, value, value_text, event_ts, created_ts "
        "FROM kuberec_user_history ORDER BY entity_key, feature_name"
    )
    with contextlib.closing(sqlite3.connect(path)) as database:
        for key, features in groupby(database.execute(query), key=lambda row: row[0]):
            yield key, [tuple(repr(each).encode() for each in row[1:]) for row in features]


def redis_rows(port: int) -> Iterator[Row]:
    import redis

    client = redis.Redis(port=port)
    keys: list[bytes] = []
    for key in client.scan_iter(b"*user_id*", _AT_ONCE):
        keys.append(key)
        if len(keys) == _AT_ONCE:
            yield from _hashes(client, keys)
            keys = []
    yield from _hashes(client, keys)


def _hashes(client: Any, keys: Sequence[bytes]) -> Iterator[Row]:
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        for key, found in zip(keys, pipe.execute(), strict=True):
            yield key, sorted(found.items())


def sample(store: Any, users: Sequence[str]) -> list[Any]:
    """What Feast's own `online_read` says of some users."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    view = store.get_feature_view("user_history")
    names = ViewLayout(store, "user_history").features
    keys = [
        EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)]) for user in users
    ]
    rows = store._get_provider().online_read(store.config, view, keys, list(names))
    return [
        (str(moment), {name: value.SerializeToString() for name, value in (values or {}).items()})
        for moment, values in rows
    ]
