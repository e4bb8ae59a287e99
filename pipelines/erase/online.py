"""A user's rows in online stores: SQLite files, and the Redis of a feature_store.yaml."""

import contextlib
import mmap
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feature_repo.store import own_settings, registry_file, store_folder
from pipelines.erase.needle import Needle
from pipelines.erase.report import Report, counted
from recommender.schema import USER_ID

_STRING = 2  # Feast's ValueType of a key's value
_BUSY_S = 10.0


def is_sqlite(head: bytes) -> bool:
    return head.startswith(b"SQLite format 3\0")


def erase_sqlite(path: Path, needle: Needle, report: Report) -> None:
    """Delete a user's rows of Feast's tables, and what was left of them in the file's free pages.

    Whoever reads meanwhile reads on. Content is overwritten (secure_delete), the file is packed
    (VACUUM), and the write-ahead log emptied, for which no reader may be inside a transaction.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        keys = list(_keys(database, needle))
        if keys:
            report.erased(path, counted(sum(rows for _, _, rows in keys), "value"))
        if report.dry or not (keys or _in_file(path, needle)):
            return
        database.execute("PRAGMA secure_delete=ON").fetchall()
        with database:
            for table, key, _ in keys:
                database.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (key,))
        database.execute("VACUUM")
        if not _empty_log(database):
            report.left(
                f"{path}-wal",
                "deleted rows in the write-ahead log",
                "a reader held it: run this again, or stop the endpoint and run this again",
            )


def _keys(database: sqlite3.Connection, needle: Needle) -> Iterator[tuple[str, bytes, int]]:
    """(table, entity key, rows) of the user."""
    tables = [
        row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
    ]
    for table in tables:
        columns = {row[1] for row in database.execute(f'PRAGMA table_info("{table}")')}
        if "entity_key" not in columns:
            continue
        for user_id in needle.ids:
            found = database.execute(
                f'SELECT entity_key, count(*) FROM "{table}" WHERE substr(entity_key, ?) = ? '
                "AND instr(entity_key, ?) > 0 GROUP BY entity_key",
                (-len(_key_end(user_id)), _key_end(user_id), USER_ID.encode()),
            )
            yield from ((table, key, rows) for key, rows in found)


def _key_end(user_id: str) -> bytes:
    """The end of an entity key, version 3: its value's type, length and bytes, little-endian."""
    value = user_id.encode()
    return struct.pack("<II", _STRING, len(value)) + value


def _in_file(path: Path, needle: Needle) -> bool:
    """Whether rows that were deleted earlier are still in free pages or in the log."""
    files = [path, path.with_name(f"{path.name}-wal")]
    return any(
        holds(file, [_key_end(each) for each in needle.ids]) for file in files if file.is_file()
    )


def holds(file: Path, wanted: Sequence[bytes]) -> bool:
    """Whether any of `wanted` is among a file's bytes, however large it is."""
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return any(view.find(each) >= 0 for each in wanted)


def _empty_log(database: sqlite3.Connection) -> bool:
    deadline = time.monotonic() + _BUSY_S
    while True:
        (busy, *_) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def erase_shared_store(home: Path, needle: Needle, report: Report) -> None:
    """Delete a user's keys in the online store that FEAST_FS_YAML_FILE_PATH names, if it does.

    Redis alone: of other kinds it says that they are to be done by hand.
    """
    settings = own_settings()
    if settings is None:
        return
    store = _open(home)
    config = store.config
    kind = str(config.online_store.type)
    if kind == "sqlite":
        path = Path(config.online_store.path)
        erase_sqlite(path if path.is_absolute() else settings.parent / path, needle, report)
        return
    if kind != "redis":
        report.left(
            f"online store of '{settings}'",
            f"a store of type {kind}, which this command cannot erase from",
            f"delete the rows of entity user_id = {', '.join(needle.ids)} there",
        )
        return
    place = f"Redis of '{settings}'"
    try:
        client = _redis(config)
        keys = [key for key in _redis_keys(config, needle) if client.exists(key)]
        if not report.dry:
            for key in keys:
                client.delete(key)
    except Exception as error:  # of Redis' own library
        what = f"it does not answer ({type(error).__name__}: {error})"
        report.left(place, what, "run this again when it does")
        return
    if keys:
        report.erased(place, counted(len(keys), "key"))


def _open(home: Path) -> Any:
    from feature_repo.store import open_store

    return open_store(store_folder(home), registry=registry_file(home))


def _redis(config: Any) -> Any:
    from feast.infra.online_stores.redis import RedisOnlineStore

    return RedisOnlineStore()._get_client(config.online_store)


def _redis_keys(config: Any, needle: Needle) -> list[bytes]:
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return [
        _redis_key(
            config.project,
            EntityKey(join_keys=[USER_ID], entity_values=[Value(string_val=user_id)]),
            config.entity_key_serialization_version,
        )
        for user_id in needle.ids
    ]
