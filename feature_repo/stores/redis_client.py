"""The Redis of a feature_store.yaml: commands in pipelines, scripts, and a server that is away."""

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from feature_repo.stores.base import StoreDown
from feature_repo.stores.redis_scripts import CHANGE, MARK, PUT, SETTLE

_TRIES = 6  # at a server that does not answer, some 3 s in all
_PAUSE_S = 0.1
_TIMEOUT_S = 5.0  # of a server that takes commands and is silent, if the settings say nothing


class RedisClient:
    """One server, what Sentinel says is the master, or a cluster: as Feast's settings say."""

    _hashes: ClassVar[dict[str, str]] = {
        script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        for script in (CHANGE, PUT, MARK, SETTLE)
    }

    def __init__(self, settings: Any, place: str) -> None:
        """`settings` are of feast's online store, `place` is what messages call the store."""
        from feast.infra.online_stores.redis import RedisOnlineStore

        self._place = place
        self.cluster = settings.redis_type == "redis_cluster"
        with self._down():
            self._client = RedisOnlineStore()._get_client(settings)
            self._set_limits()

    def _set_limits(self) -> None:
        """The client would try for half a minute by itself, and wait for ever."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if not self.cluster:
            self._client.set_retry(Retry(NoBackoff(), 0))
            settings = self._client.connection_pool.connection_kwargs
            for name in ("socket_timeout", "socket_connect_timeout"):
                if settings.get(name) is None:
                    settings[name] = _TIMEOUT_S

    def script(self, script: str, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        if self.cluster:  # EVALSHA is not allowed in its pipelines
            return ("EVAL", script, len(keys), *keys, *arguments)
        return ("EVALSHA", self._hashes[script], len(keys), *keys, *arguments)

    def run(self, commands: Sequence[tuple[Any, ...]], scripts: Sequence[str] = ()) -> list[Any]:
        """Each command's answer. Run anew while the server does not answer: all may be repeated."""
        if not commands:
            return []
        loads = [] if self.cluster else [("SCRIPT LOAD", script) for script in scripts]
        with self._down():
            for attempt in range(_TRIES):
                try:
                    with self._client.pipeline(transaction=False) as pipe:
                        for command in (*loads, *commands):
                            pipe.execute_command(*command)
                        return list(pipe.execute()[len(loads) :])
                except _blips():
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.7, 1.3))
        raise AssertionError("unreachable")

    def scan(self, pattern: bytes, at_once: int) -> list[bytes]:
        """Keys that match, each once or more often."""
        with self._down():
            return list(self._client.scan_iter(pattern, at_once))

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _down(self) -> Iterator[None]:
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreDown(
                f"{self._place} does not answer as it should ({type(error).__name__}: {error}): "
                "check that it runs, can be reached from here, and that its connection string and "
                "password are right; then run this again"
            ) from error


def _blips() -> tuple[type[BaseException], ...]:
    from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

    return ConnectionError, TimeoutError, BusyLoadingError, OSError
