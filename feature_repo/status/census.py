"""How many rows a view has in its online store, and how new the newest is.

SQLite and PostgreSQL count. Redis has no index by view: of a large one a sample is looked at, for
SCAN goes through keys in an order that has nothing to do with what they are or hold.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.stores.base import StoreDown
from feature_repo.stores.layout import ViewLayout, from_us
from feature_repo.stores.open import open_rows

_SAMPLE = 20_000  # keys of Redis, of any kind
_AT_ONCE = 1000
Tell = Callable[[int], None]


class Census(NamedTuple):
    """Of one view online."""

    rows: int
    exact: bool  # False: estimated from a sample
    newest: datetime | None  # event time of the newest row, UTC, whole seconds; or of the sample's
    mark: dict[str, Any]  # what materialisation has left in the store; {} if nothing


def take_census(store: Any, view: str, exact: bool = False, tell: Tell | None = None) -> Census:
    """Count a view's rows in the online store of a feast.FeatureStore.

    Args:
        exact: look at every key of Redis, however many there are.
        tell: called with the keys of Redis looked at so far.

    Raises:
        StoreDown: the store does not answer.
        KuberecError: the registry has no such view, or the store is of a kind not known.
    """
    layout = ViewLayout(store, view)
    kind = store.config.online_store.type
    if kind == "redis":  # first, since it says at once if nobody is there
        count, all_seen, newest = _of_redis(store.config, layout, exact, tell or (lambda _: None))
    else:
        count, key = (_of_sqlite if kind == "sqlite" else _of_postgres)(store.config, layout)
        all_seen, newest = True, None
    with contextlib.closing(open_rows(store, view)) as rows:
        mark = rows.mark()
        if kind != "redis" and key:  # each kind has its own way with zones, which `rows` knows
            row = rows.read([layout.entity_id(key)])[0]
            newest = row.event_time if row else None
    return Census(count, all_seen, newest, dict(mark.content) if mark else {})


def _of_sqlite(config: Any, layout: ViewLayout) -> tuple[int, bytes | None]:
    """Rows, and the key of the newest."""
    path = Path(config.online_store.path)
    path = path if path.is_absolute() else config.repo_path / path
    table = '"' + layout.table.replace('"', '""') + '"'
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            # A feature of numbers: its rows are small.
            (count,) = database.execute(
                f"SELECT count(*) FROM {table} WHERE feature_name = ?", (layout.features[-1],)
            ).fetchone()
            found = database.execute(
                f"SELECT entity_key FROM {table} ORDER BY event_ts DESC LIMIT 1"
            ).fetchone()
    except sqlite3.Error as error:
        raise StoreDown(f"online store '{path}' cannot be read: {error}") from error
    return count, found[0] if found else None


def _of_postgres(config: Any, layout: ViewLayout) -> tuple[int, bytes | None]:
    import psycopg
    from feast.infra.utils.postgres.connection_utils import _get_conn
    from psycopg import sql

    table = sql.Identifier(layout.table)
    count = sql.SQL("SELECT count(*) FROM {} WHERE feature_name = %s").format(table)
    newest = sql.SQL("SELECT entity_key FROM {} ORDER BY event_ts DESC LIMIT 1").format(table)
    try:
        with contextlib.closing(_get_conn(config.online_store)) as connection:
            rows = connection.execute(count, (layout.features[-1],)).fetchone()
            found = connection.execute(newest).fetchone()
    except psycopg.Error as error:
        raise StoreDown(f"the online store (PostgreSQL) cannot be read: {error}") from error
    return int(rows[0]) if rows else 0, bytes(found[0]) if found else None


def _of_redis(
    config: Any, layout: ViewLayout, exact: bool, tell: Tell
) -> tuple[int, bool, datetime | None]:
    from feast.infra.online_stores.redis import RedisOnlineStore
    from google.protobuf.timestamp_pb2 import Timestamp
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    prefix, project = layout.key("")[:-8], layout.project.encode()
    time_field = f"_ts:{layout.name}"
    looked, count, newest_us = 0, 0, None
    try:
        with contextlib.closing(RedisOnlineStore()._get_client(config.online_store)) as client:
            client.set_retry(Retry(NoBackoff(), 0))  # 8 s otherwise, before it says so
            total = client.dbsize()
            total = (
                sum(total.values()) if isinstance(total, dict) else total
            )  # of a cluster's nodes
            enough = exact or total <= _SAMPLE
            keys = client.scan_iter(count=_AT_ONCE)
            for part in _parts(keys if enough else islice(keys, _SAMPLE)):
                ours = [key for key in part if key.startswith(prefix) and key.endswith(project)]
                with client.pipeline(transaction=False) as pipe:
                    for key in ours:
                        pipe.hget(key, time_field)
                    times = [Timestamp.FromString(raw) for raw in pipe.execute() if raw]
                count += len(times)
                looked += len(part)
                tell(looked)
                us = max((each.seconds * 1_000_000 for each in times), default=None)
                newest_us = max(
                    (each for each in (us, newest_us) if each is not None), default=None
                )
    except (RedisError, OSError) as error:
        raise StoreDown(
            f"the online store (Redis) does not answer ({type(error).__name__}: {error}): check "
            "that it runs, can be reached from here, and that its connection string is right"
        ) from error
    rows = count if enough or not looked else round(count / looked * total)
    return rows, enough, None if newest_us is None else from_us(newest_us)


def _parts(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    while part := list(islice(keys, _AT_ONCE)):
        yield part
