"""A feature store's rows, whichever of the supported kinds its online store is."""

from pathlib import Path
from typing import Any

from feature_repo.store import own_settings
from feature_repo.stores.base import BulkRows
from feature_repo.stores.layout import ViewLayout
from recommender.errors import KuberecError

KINDS = ("sqlite", "redis", "postgres")


def open_rows(store: Any, view: str) -> BulkRows:
    """Rows of a view in the online store of a feast.FeatureStore; to be closed.

    Raises:
        KuberecError: the registry has no such view, or the store is of another kind.
        StoreDown: SQLite or PostgreSQL is not there. (Redis is asked at the first use.)
    """
    config = store.config.online_store
    kind = str(config.type)
    if kind not in KINDS:
        raise KuberecError(
            f"online_store.type is '{kind}' in {_settings()}: allowed: {', '.join(KINDS)}"
        )
    layout = ViewLayout(store, view)
    if kind == "sqlite":
        from feature_repo.stores.sqlite import SqliteRows

        if config.vector_enabled:  # Feast itself cannot write lists then
            raise KuberecError(
                f"{_settings()}: online_store.vector_enabled works with postgres, not with sqlite"
            )
        path = Path(config.path)
        return SqliteRows(path if path.is_absolute() else store.config.repo_path / path, layout)
    if kind == "redis":
        from feature_repo.stores.redis import RedisRows

        return RedisRows(store.config, layout, f"the online store (Redis) of {_settings()}")
    from feature_repo.stores.postgres import PostgresRows

    return PostgresRows(store.config, layout, f"the online store (PostgreSQL) of {_settings()}")


def _settings() -> str:
    settings = own_settings()
    return f"'{settings}'" if settings else "the embedded feature_store.yaml"
