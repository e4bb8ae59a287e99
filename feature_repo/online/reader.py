"""Users' histories from Feast's online store, faster than Feast's own way to ask for features.

FeatureStore.get_online_features resolves the FeatureService, converts the entities and builds a
response anew for each call: three quarters of its time on SQLite (benchmarks/lookup.py). Here the
service is resolved once, and the rest is what Feast asks every kind of store to implement:
OnlineStore.online_read and online_read_async. Concurrent lookups share a read.
"""

import asyncio
import gc
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.online.batching import Admits, Batcher
from feature_repo.online.opening import StoreUnavailable, online_file, open_online
from feature_repo.online.worker import Worker
from recommender.errors import KuberecError

HISTORY, TIMES = "history", "history_times"
# Reads at a time of a store that is asked over the network: enough that one slow answer does not
# hold up all, few enough that lookups still share.
_NETWORK_LANES = 4
MAX_KEYS = 256  # of a merged read: four of the largest requests


class StoredFeatures(NamedTuple):
    """What is stored of one user."""

    history: list[str]  # raw item ids, oldest first; empty too where it is stored as null
    event_time: float | None  # Unix time, seconds; None where there is no row
    times: Sequence[int] | None = None  # of each of `history`, µs since 1970; None if not asked for


class OnlineReader:
    """The user history that a FeatureService reads, looked up from one event loop.

    SQLite holds event times in the local time of who wrote them (Feast does so), to the second:
    the reader's time zone must be the writer's. Redis has no such limit.

    Attributes:
        view: name of the feature view that holds the history.
    """

    def __init__(self, store: Path, service: str, with_times: bool = False) -> None:
        """Open the store; this blocks, for seconds where Feast is not imported yet.

        A store behind a network is not contacted before the first read.

        Args:
            store: folder of the embedded store, or a feature_store.yaml file.
            service: name of the FeatureService.
            with_times: also read the times of a history's events, which few versions need.

        Raises:
            StoreUnavailable: no such store, service or table, or a service without a history.
        """
        opened = open_online(store)
        self._names = [HISTORY, TIMES] if with_times else [HISTORY]
        self._config = opened.config
        self._table = _history_view(opened, store, service)
        self.view = str(self._table.name)
        (self._join_key,) = self._table.join_keys
        from feast.infra.online_stores.helpers import get_online_store_from_config
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        self._key_type, self._value_type = EntityKey, Value
        self._online = get_online_store_from_config(self._config.online_store)
        self._file = online_file(self._config)
        self._opened_file = _identity(self._file)
        self._worker: Worker | None = None
        if self._online.async_supported.read:
            self._reads = Batcher(self._fetch_network, _NETWORK_LANES, read_room, stoppable=True)
        else:
            self._worker = Worker("feature-reads")
            self._reads = Batcher(self._fetch_blocking, 1, read_room, stoppable=False)
            self._try(store)

    def read(self, user_ids: Sequence[str]) -> "asyncio.Future[list[StoredFeatures]]":
        """One for each user, in order; ([], None) for an unknown one.

        To be awaited. It has no deadline of its own, and can be cancelled at any time.

        Raises (when awaited):
            StoreUnavailable: the SQLite file is another one now: open it anew.
            Exception: of the store's own library.
        """
        return self._reads.ask([self._key(user) for user in user_ids])

    async def close(self) -> None:
        """Let go of connections and of the thread; reads under way fail."""
        self._reads.close(StoreUnavailable("the feature store was closed meanwhile"))
        await self._online.close()
        del self._online  # its connections go with it: not every store of Feast's closes them
        if self._worker:
            # SQLite's connection is part of a reference cycle. The last one to close tidies up its
            # write-ahead log, which takes time: so in the thread.
            self._worker.stop(gc.collect)

    def _key(self, user: str) -> Any:
        return self._key_type(
            join_keys=[self._join_key], entity_values=[self._value_type(string_val=user)]
        )

    async def _fetch_network(self, keys: list[Any]) -> list[StoredFeatures]:
        # A new list of names each time: Feast's Redis store appends to it.
        names = list(self._names)
        return _stored(
            await self._online.online_read_async(self._config, self._table, keys, names),
            TIMES in self._names,
        )

    async def _fetch_blocking(self, keys: list[Any]) -> list[StoredFeatures]:
        assert self._worker
        online = self._online

        def fetch() -> list[StoredFeatures]:
            if self._file and _identity(self._file) != self._opened_file:
                raise StoreUnavailable(f"'{self._file}' was removed or replaced")
            rows = online.online_read(self._config, self._table, keys, list(self._names))
            if self._config.online_store.type == "postgres":
                rows = [(_as_written(moment), values) for moment, values in rows]
            return _stored(rows, TIMES in self._names)

        return await self._worker.run(fetch)

    def _try(self, store: Path) -> None:
        try:
            self._online.online_read(self._config, self._table, [self._key("")], [HISTORY])
        except Exception as error:
            raise StoreUnavailable(f"online store of '{store}': {error}") from error


def read_room() -> Admits:
    """Of one read: MAX_KEYS."""
    taken = 0

    def admits(keys: Sequence[Any]) -> bool:
        nonlocal taken
        fits = taken + len(keys) <= MAX_KEYS
        taken += len(keys) if fits or not taken else 0
        return fits

    return admits


def _history_view(opened: Any, store: Path, service: str) -> Any:
    """The FeatureView, as the service projects it, that has the feature `history`."""
    from feature_repo.compatibility import check_view
    from feature_repo.registry import find_service

    try:
        for projection in find_service(opened, service, str(store)).feature_view_projections:
            if HISTORY in (feature.name for feature in projection.features):
                view = opened.get_feature_view(projection.name)
                check_view(view, str(store))
                return view.with_projection(projection)
    except KuberecError as error:
        raise StoreUnavailable(str(error)) from error
    except Exception as error:  # of the registry's own library
        raise StoreUnavailable(
            f"feature store '{store}', service '{service}': {error}; materialise the features of "
            "this model version into it"
        ) from error
    raise StoreUnavailable(
        f"feature store '{store}': service '{service}' has no feature '{HISTORY}'"
    )


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Which file it is: two of the same name differ. None where there is none."""
    try:
        status = os.stat(file) if file else None  # noqa: PTH116 - Path.stat costs more
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def _as_written(moment: datetime | None) -> datetime | None:
    """Feast gives PostgreSQL a UTC time without a zone, which it takes for one of its own zone."""
    return moment.replace(tzinfo=UTC) if moment else None


def _stored(rows: Sequence[tuple[Any, Any]], with_times: bool) -> list[StoredFeatures]:
    """What OnlineStore.online_read returns: (event time, {feature: value}), or Nones."""
    found = []
    for moment, values in rows:
        history = list(values[HISTORY].string_list_val.val) if values and HISTORY in values else []
        # Redis gives 1970 and empty values where it has no row.
        time = moment.timestamp() if moment else None
        times = None
        if with_times and values and TIMES in values:
            stored = values[TIMES].int64_list_val.val
            times = stored if len(stored) == len(history) else None  # none in an old store
        found.append(StoredFeatures(history, time if time or history else None, times))
    return found
