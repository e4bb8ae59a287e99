"""State homes with a filled feature store of each kind, as live events find them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from feature_stores import SERVICE, postgres_store, redis_server, redis_store, sqlite_store
from postgres_server import postgres_server

from feature_repo.live.histories import VIEW, LiveHistories
from feature_repo.online.reader import OnlineReader
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder
from feature_repo.stores.open import open_rows

KINDS = ("sqlite", "redis", "postgres")
LENGTH = 1000  # of a store whose offline tables do not say


class Home:
    """A state home with a filled feature store; settings are in the environment."""

    def __init__(self, home: Path, store: Path, server: Any = None) -> None:
        self.home = home
        self.server = server
        self.store = store  # as OnlineReader takes it

    def histories(self, length: int = LENGTH) -> LiveHistories:
        opened = LiveHistories(self.home)
        opened.open()
        opened.length = length
        return opened

    def stored(self, users: Any) -> dict[str, Any]:
        rows = open_rows(open_store(store_folder(self.home)), VIEW)
        try:
            return dict(zip(users, rows.read(list(users)), strict=True))
        finally:
            rows.close()

    def read(self, *users: str) -> dict[str, list[str]]:
        """As a transformer does."""

        async def ask() -> dict[str, list[str]]:
            reader = OnlineReader(self.store, SERVICE)
            found = await reader.read(users)
            await reader.close()
            return {user: each.history for user, each in zip(users, found, strict=True)}

        return asyncio.run(ask())


@contextmanager
def live_home(kind: str, folder: Path) -> Iterator[Home]:
    """One of a kind in `folder`; the environment names it until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SETTINGS_VARIABLE, raising=False)
        patch.setenv("KUBEREC_HOME", str(folder))
        store = store_folder(folder)
        if kind == "sqlite":
            yield Home(folder, sqlite_store(store))
            return
        with redis_server(folder) if kind == "redis" else postgres_server() as running:
            filled = redis_store(store, running.port) if kind == "redis" else None
            settings = filled or postgres_store(store, running)
            patch.setenv(SETTINGS_VARIABLE, str(settings))
            yield Home(folder, settings, running)
