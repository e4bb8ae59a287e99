"""State homes whose online store is SQLite, Redis or PostgreSQL, and what is in it."""

import random
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feature_stores import REDIS_SETTINGS, RedisServer
from offline_tables import Rows
from postgres_server import PostgresServer

import feature_repo.materialize.run as run_module
import feature_repo.stores.redis_client as redis_module
from feature_repo.materialize import home as materializing
from feature_repo.materialize.home import materialize
from feature_repo.store import (
    REPOSITORY,
    SETTINGS_VARIABLE,
    STORE_VARIABLE,
    open_store,
    store_folder,
)
from feature_repo.stores.open import open_rows

KINDS = ("sqlite", "redis", "postgres")
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
USERS = 300


class Place(NamedTuple):
    kind: str
    home: Path
    redis: RedisServer | None

    def result(self, made: Path, version: str = "v1", **given: Any) -> dict[str, Any]:
        """What materialisation says of the view user_history."""
        return dict(materialize(made, self.home, version, **given)["views"]["user_history"])


def make_place(
    kind: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: RedisServer | None = None,
    postgres: PostgresServer | None = None,
) -> Place:
    """An empty store of a kind, with its server; small parts, and no waiting."""
    monkeypatch.setattr(run_module, "_AT_ONCE", 50)
    monkeypatch.setattr(materializing, "_TELL_S", 0.0)
    monkeypatch.setattr(redis_module, "_PAUSE_S", 0.01)
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    if redis:
        client(redis).flushall()
        settings = home.parent / "feature_store.yaml"
        settings.write_text(REDIS_SETTINGS)
        monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
        monkeypatch.setenv("KUBEREC_REDIS", f"127.0.0.1:{redis.port}")
        monkeypatch.setenv("KUBEREC_FEATURE_REGISTRY", str(home.parent / "registry.db"))
    if postgres:
        for name, value in postgres.environment(postgres.database()).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv(SETTINGS_VARIABLE, str(REPOSITORY / "feature_store_postgres.yaml"))
        monkeypatch.setenv(STORE_VARIABLE, str(store_folder(home)))
    return Place(kind, home, redis)


def client(server: RedisServer) -> Any:
    import redis

    return redis.Redis(port=server.port)


def users(seed: int, count: int = USERS) -> Rows:
    """Histories of 1 to 30 items, all before NOON."""
    rng = random.Random(seed)
    return [
        (
            f"user-{number}",
            [f"ïtem-{rng.randrange(99)}" for _ in range(rng.randint(1, 30))],
            NOON - timedelta(minutes=1 + number, microseconds=rng.randrange(10**6)),
        )
        for number in range(count)
    ]


def content(place: Place) -> Any:
    """Everything that a store holds of both views, in its own form."""
    if place.redis:
        connection = client(place.redis)
        keys = [key for key in connection.scan_iter("*") if not key.startswith(b"kuberec:")]
        return {key: connection.hgetall(key) for key in keys}
    query = "SELECT * FROM kuberec_{} ORDER BY entity_key, feature_name"
    views = "user_history", "item_features"
    if place.kind == "sqlite":
        with sqlite3.connect(store_folder(place.home) / "online.db") as database:
            return [database.execute(query.format(view)).fetchall() for view in views]
    store = open_store(store_folder(place.home))
    rows: Any = open_rows(store, "user_history")
    found = [rows._client._connection.execute(query.format(view)).fetchall() for view in views]
    rows.close()
    return found


def emptied(place: Place) -> None:
    """A store without rows and marks, and nothing known of it."""
    store = open_store(store_folder(place.home))
    for view in ("user_history", "item_features"):
        rows: Any = open_rows(store, view)
        rows.delete(rows.ids())
        if place.redis:
            client(place.redis).delete(rows._mark_key)
        else:
            connection = rows._database if place.kind == "sqlite" else rows._client._connection
            connection.execute("DELETE FROM kuberec_materialized")
        rows.close()
