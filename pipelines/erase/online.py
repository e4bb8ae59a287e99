"""A user's rows in online stores: SQLite files, and Redis or PostgreSQL of a feature_store.yaml."""

import contextlib
import mmap
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from feature_repo.store import own_settings, place_files, read_settings, store_folder
from pipelines.erase.needle import Needle
from pipelines.erase.report import Report, counted
from recommender.errors import KuberecError
from recommender.schema import USER_ID

_STRING = 2  # Feast's ValueType of a key's value
_BUSY_S = 10.0
_FEAST_TABLES = """
    SELECT table_schema, table_name FROM information_schema.columns
    WHERE table_schema = %s AND column_name IN ('entity_key', 'feature_name')
    GROUP BY 1, 2 HAVING count(*) = 2 OR table_name = 'kuberec_live' ORDER BY 2
"""
_VIEW = "user_history"  # the one that live events change


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
    """Delete a user's rows in the online store that FEAST_FS_YAML_FILE_PATH names, if it does.

    SQLite, Redis and PostgreSQL: of other kinds it says that they are to be done by hand.
    """
    settings = own_settings()
    if settings is None:
        return
    try:
        config = _config(settings, home)
    except KuberecError as error:
        by_hand = f"delete the rows of entity user_id = {', '.join(needle.ids)} there"
        report.left(f"online store of '{settings}'", str(error), f"{by_hand}, or run this again")
        return
    kind = str(config.online_store.type)
    if kind == "sqlite":
        erase_sqlite(Path(config.online_store.path), needle, report)
        return
    erase, name, unit = _WAYS[kind]
    place = f"{name} of '{settings}'"
    try:
        count = erase(config, _entity_keys(needle), report.dry)
    except Exception as error:  # of the store's own library
        what = f"it does not answer ({type(error).__name__}: {error})"
        report.left(place, what, "run this again when it does")
        return
    if count:
        report.erased(place, counted(count, unit))


def _config(settings: Path, home: Path) -> Any:
    """Of the store; its registry, which may be down, is not opened."""
    from feature_repo.registry import make_config

    raw = read_settings(settings, store_folder(home))
    place_files(raw, settings.parent)
    return make_config(raw, str(settings), settings.parent)


def _erase_redis(config: Any, entity_keys: Sequence[Any], dry: bool) -> int:
    """Rows, and notes that there are live events in them."""
    from feast.infra.online_stores.helpers import _redis_key
    from feast.infra.online_stores.redis import RedisOnlineStore

    from feature_repo.stores.redis import notes_key

    client = RedisOnlineStore()._get_client(config.online_store)
    version = config.entity_key_serialization_version
    keys = [_redis_key(config.project, key, version) for key in entity_keys]
    found = [key for key in keys if client.exists(key)]
    notes = notes_key(config.project, _VIEW)
    ids = [key.entity_values[0].string_val for key in entity_keys]
    noted = [each for each in ids if client.hexists(notes, each)]
    if not dry:
        for key in found:
            client.delete(key)
        if noted:
            client.hdel(notes, *noted)
    return len(found) + len(noted)


def _erase_postgres(config: Any, entity_keys: Sequence[Any], dry: bool) -> int:
    """Values deleted from every table of Feast's in the store's schema, then their room freed.

    What was deleted stays in the write-ahead log and in backups for as long as these are kept.
    """
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.infra.utils.postgres.connection_utils import _get_conn
    from psycopg import sql

    version = config.entity_key_serialization_version
    keys = [serialize_entity_key(key, version) for key in entity_keys]
    count = 0
    with contextlib.closing(_get_conn(config.online_store)) as connection:
        connection.autocommit = True  # VACUUM runs in no transaction
        tables = connection.execute(_FEAST_TABLES, (config.online_store.db_schema,)).fetchall()
        for names in tables:
            table = sql.Identifier(*names)
            found = sql.SQL("SELECT count(*) FROM {} WHERE entity_key = ANY(%s)").format(table)
            (rows,) = connection.execute(found, (keys,)).fetchone() or (0,)
            count += rows
            if rows and not dry:
                delete = sql.SQL("DELETE FROM {} WHERE entity_key = ANY(%s)").format(table)
                connection.execute(delete, (keys,))
                connection.execute(sql.SQL("VACUUM {}").format(table))
    return count


def _entity_keys(needle: Needle) -> list[Any]:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return [
        EntityKey(join_keys=[USER_ID], entity_values=[Value(string_val=user_id)])
        for user_id in needle.ids
    ]


_WAYS = {
    "redis": (_erase_redis, "Redis", "key"),
    "postgres": (_erase_postgres, "PostgreSQL", "value"),
}
