"""Rows of SQLite, Redis and PostgreSQL: Feast's own bytes, and no writer loses another's work."""

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from feature_stores import EXPECTED, HISTORIES, RedisServer, fill, redis_server
from postgres_server import postgres_server

from feature_repo.store import import_feast
from feature_repo.stores.base import NO_ROW, BulkRows, EncodedRows, Mark, OnlineRow, TakenOver
from feature_repo.stores.layout import to_us
from feature_repo.stores.open import open_rows
from recommender.errors import KuberecError

pytestmark = pytest.mark.timeout(180)
KINDS = ("sqlite", "redis", "redis cluster", "postgres")
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
Opens = Callable[[], BulkRows]


def feast_store(folder: Path, online: dict[str, Any]) -> Any:
    """A feast.FeatureStore with its registry in `folder`."""
    import_feast()
    from feast import FeatureStore, RepoConfig

    return FeatureStore(
        config=RepoConfig(
            project="kuberec",
            provider="local",
            registry={"path": str(folder / "registry.db")},
            online_store=online,
            offline_store={"type": "duckdb"},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Of each kind, Feast's settings of a running one."""
    folder = tmp_path_factory.mktemp("stores")
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path_factory.mktemp("redis")))
        cluster = stack.enter_context(
            redis_server(tmp_path_factory.mktemp("cluster"), ["--cluster-enabled", "yes"])
        )
        serve_all_slots(cluster)
        postgres = stack.enter_context(postgres_server())
        where = postgres.environment(postgres.database())
        yield {
            "sqlite": {"type": "sqlite", "path": str(folder / "online.db")},
            "redis": {"type": "redis", "connection_string": f"127.0.0.1:{server.port}"},
            "redis cluster": {
                "type": "redis",
                "redis_type": "redis_cluster",
                "connection_string": f"127.0.0.1:{cluster.port}",
            },
            "postgres": {
                "type": "postgres",
                "host": where["PGHOST"],
                "port": int(where["PGPORT"]),
                "database": where["PGDATABASE"],
                "user": where["PGUSER"],
                "password": where["PGPASSWORD"],
                "db_schema": "public",
                "sslmode": None,
            },
        }


def serve_all_slots(server: RedisServer) -> None:
    """Makes a cluster of one node ready."""
    client = redis.Redis(port=server.port)
    client.execute_command("CLUSTER ADDSLOTS", *range(16384))
    deadline = time.monotonic() + 20
    while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
        assert time.monotonic() < deadline, "the cluster does not come up"
        time.sleep(0.05)


@pytest.fixture(params=KINDS, scope="module")
def store(
    request: pytest.FixtureRequest,
    settings: dict[str, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """Filled by Feast itself."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    opened = feast_store(folder, settings[request.param])
    fill(opened, folder, HISTORIES)
    return opened


@pytest.fixture
def rows(store: Any) -> Iterator[BulkRows]:
    opened = open_rows(store, "user_history")
    yield opened
    opened.close()


def row(history: list[str], moment: datetime) -> OnlineRow:
    from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value

    last = int(moment.timestamp())
    return OnlineRow(
        moment,
        {
            "history": Value(string_list_val=StringList(val=history)),
            "history_times": Value(int64_list_val=Int64List(val=range(len(history)))),
            "history_ranks": Value(int64_list_val=Int64List(val=[0] * len(history))),
            "event_count": Value(int64_val=len(history)),
            "last_event_time": Value(unix_timestamp_val=last),
        },
    )


def history(found: OnlineRow | None) -> list[str] | None:
    return list(found.values["history"].string_list_val.val) if found else None


def by_feast(store: Any, users: list[str]) -> Any:
    return store.get_online_features(
        store.get_feature_service("recommend_v1"), [{"user_id": user} for user in users]
    ).to_dict()


def test_what_feast_wrote_is_read(rows: BulkRows) -> None:
    found = dict(zip(EXPECTED, rows.read(list(EXPECTED)), strict=True))
    assert found["nobody"] is None
    for user, (items, moment) in HISTORIES.items():
        stored = found[user]
        assert stored is not None
        assert stored.event_time == moment
        assert history(stored) == (items or [])
        assert stored.values["history"].HasField("string_list_val") == (items is not None)
    assert rows.ids() == sorted(HISTORIES)


def test_feast_reads_what_was_written(store: Any, rows: BulkRows) -> None:
    """The same bytes and the same time: what Feast writes of it changes nothing."""
    moment = NOON + timedelta(microseconds=123_456)
    assert rows.change(["new", "u1", "ü4"], lambda old: [row(["a", "ü"], moment), None, None]) == 1
    read = by_feast(store, ["new", "u1"])
    assert (read["history"], read["event_count"]) == ([["a", "ü"], ["i1", "i2", "i3"]], [2, 3])
    ours = raw(store, rows, "new")
    view = store.get_feature_view("user_history")
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="new")])
    rows.delete(["new"])
    store._get_provider().online_write_batch(
        store.config, view, [(key, row(["a", "ü"], moment).values, moment, None)], None
    )
    assert raw(store, rows, "new") == ours
    assert rows.delete(["new", "nobody"]) == 1
    assert rows.read(["new"]) == [None]


def raw(store: Any, rows: Any, user: str) -> Any:
    """What the store has of a user, in its own form."""
    if store.config.online_store.type == "redis":
        return rows._client._client.hgetall(rows._key(user))
    query = "SELECT * FROM kuberec_user_history WHERE entity_key = {} ORDER BY feature_name"
    if store.config.online_store.type == "sqlite":
        return rows._database.execute(query.format("?"), [rows._layout.key(user)]).fetchall()
    return rows._client._connection.execute(query.format("%s"), [rows._layout.key(user)]).fetchall()


def appended(number: int, moment: datetime) -> Callable[..., list[OnlineRow]]:
    return lambda old: [row([*(history(each) or []), str(number)], moment) for each in old]


def append_many(opens: Opens, numbers: range) -> None:
    rows = opens()
    for number in numbers:
        rows.change(["hot-1", "hot-2"], appended(number, NOON))
    rows.close()


def process(folder: Path, online: dict[str, Any], numbers: range) -> None:
    append_many(lambda: open_rows(feast_store(folder, online), "user_history"), numbers)


def test_no_writer_loses_anothers_work(store: Any, rows: BulkRows) -> None:
    """Four threads, two processes; each adds its own numbers to the same two rows."""
    rows.delete(["hot-1", "hot-2"])
    opens = lambda: open_rows(store, "user_history")  # noqa: E731
    workers: list[Any] = [
        threading.Thread(target=append_many, args=(opens, range(100 * n, 100 * n + 15)))
        for n in range(4)
    ]
    context = multiprocessing.get_context("fork")
    online = store.config.online_store.model_dump(mode="json")
    workers += [
        context.Process(
            target=process, args=(store.config.repo_path, online, range(100 * n, 100 * n + 15))
        )
        for n in (4, 5)
    ]
    for worker in reversed(workers):  # processes first: fork knows of no threads
        worker.start()
    for worker in workers:
        worker.join()
    expected = sorted(str(100 * n + k) for n in range(6) for k in range(15))
    for found in rows.read(["hot-1", "hot-2"]):
        assert sorted(history(found) or []) == expected
        own = [each for each in history(found) or [] if each.startswith("30")]
        assert own == sorted(own)


def encoded(rows: Any, given: dict[str, OnlineRow]) -> EncodedRows:
    values = [{n: v.SerializeToString() for n, v in each.values.items()} for each in given.values()]
    return EncodedRows(
        list(given),
        [to_us(each.event_time) for each in given.values()],
        {name: [each[name] for each in values] for name in values[0]},
    )


def test_put_leaves_rows_that_are_as_new(rows: BulkRows) -> None:
    day = timedelta(days=1)
    rows.delete(["old", "live", "new"])
    start = {"old": row(["o"], NOON - day), "live": row(["l"], NOON + day)}
    assert rows.put(encoded(rows, start), None, None) == []
    given = {each: row(["x"], NOON) for each in ("old", "live", "new")}
    assert rows.put(encoded(rows, given), int(NOON.timestamp()), None) == [1]
    assert [history(each) for each in rows.read(list(given))] == [["x"], ["l"], ["x"]]
    before = {"old": row(["p"], datetime(1969, 12, 30, tzinfo=UTC))}
    rows.delete(["old"])
    assert rows.put(encoded(rows, before), None, None) == []
    assert rows.put(encoded(rows, given), None, None) == [0, 1, 2]
    assert rows.put(encoded(rows, given), 0, None) == [1, 2]
    assert rows.change(["old", "live", "new"], lambda old: [NO_ROW] * 3) == 3
    assert rows.read(["old", "live", "new"]) == [None] * 3


def test_only_the_last_to_claim_writes(rows: BulkRows) -> None:
    rows.claim(Mark("first", {"done": 0}))
    assert rows.put(encoded(rows, {"m": row(["1"], NOON)}), None, Mark("first", {"done": 1})) == []
    assert rows.mark() == Mark("first", {"done": 1})
    rows.claim(Mark("second", {}))
    with pytest.raises(TakenOver, match="another materialisation of 'user_history' has begun"):
        rows.put(encoded(rows, {"m": row(["2"], NOON)}), 2**40, Mark("first", {"done": 2}))
    assert history(rows.read(["m"])[0]) == ["1"]
    assert rows.mark() == Mark("second", {})
    rows.delete(["m"])


def test_live_changes_leave_notes_until_these_are_settled(store: Any, rows: BulkRows) -> None:
    old = rows.noted()
    users = [f"ü{number}" for number in range(1200)]
    change = [row(["x"], NOON)] * len(users)
    rows.change(users, lambda old: change)
    assert rows.noted() == old
    rows.change(users, lambda old: change, live=True)
    first = rows.noted()
    assert first.keys() - old.keys() == set(users)
    with contextlib.closing(open_rows(store, "user_history")) as other:
        other.change(["ü7", "ü8"], lambda old: change[:2], live=True)
    rows.settle({user: first[user] for user in users})
    assert rows.noted().keys() == {*old, "ü7", "ü8"}
    rows.settle(rows.noted())
    assert rows.noted() == {}
    rows.delete(users)


def test_an_id_twice_and_an_unknown_view(store: Any, rows: BulkRows) -> None:
    with pytest.raises(ValueError, match="twice"):
        rows.change(["a", "a"], lambda old: old)
    with pytest.raises(KuberecError, match="has no view 'nothing'"):
        open_rows(store, "nothing")
