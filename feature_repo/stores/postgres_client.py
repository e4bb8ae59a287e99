"""The PostgreSQL of a feature_store.yaml: transactions, and a server that is away."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from feature_repo.stores.base import StoreDown

_TRIES = 6  # at a server that does not answer, some 3 s in all
_PAUSE_S = 0.1


class PostgresClient:
    """One connection, made when it is needed."""

    def __init__(self, settings: Any, place: str) -> None:
        """`settings` are of feast's online store, `place` is what messages call the store."""
        self._settings = settings
        self._place = place
        self._connection: Any = None

    def timezone(self) -> Any:
        """The server's, for this connection."""
        return self._connection.info.timezone

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def attempt(self, work: Callable[[Any], Any]) -> Any:
        """`work` in a transaction, anew while the server does not answer: all may be repeated."""
        import psycopg

        with self._down():
            for attempt in range(_TRIES):
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    with self._connection.transaction(), self._connection.cursor() as cursor:
                        return work(cursor)
                except psycopg.OperationalError:  # deadlocks too
                    self.close()
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.7, 1.3))
        raise AssertionError("unreachable")

    def _connect(self) -> Any:
        from feast.infra.utils.postgres.connection_utils import _get_conn

        connection = _get_conn(self._settings)
        connection.autocommit = True  # transactions are where they are said to be
        return connection

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise StoreDown(
                f"{self._place} does not answer as it should ({type(error).__name__}: {error}): "
                "check that it runs, can be reached from here, and that its host, user and "
                "password are right; then run this again"
            ) from error
