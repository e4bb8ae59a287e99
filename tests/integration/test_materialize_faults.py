"""Materialisation into a store that falls, by a process that is killed, and by two at once."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from feature_stores import RedisServer, redis_server
from materialize_places import NOON, USERS, Place, client, content, emptied, make_place, users
from offline_tables import tables

from feature_repo.online.histories import online_histories
from feature_repo.store import store_folder, versions
from feature_repo.stores import redis_client
from feature_repo.stores.base import StoreDown

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer) -> Place:
    return make_place("redis", tmp_path / "home", monkeypatch, redis)


def test_redis_that_falls_in_the_middle(redis_place: Place, tmp_path: Path) -> None:
    place = redis_place
    assert place.redis
    redis = place.redis
    made = tables(tmp_path / "a", users(1))

    def fall(done: int, total: int, message: str) -> None:
        if message == "rows of user_history" and done >= 100:
            redis.kill()

    settings = tmp_path / "feature_store.yaml"
    with pytest.raises(StoreDown, match=rf"'{settings}'.*\(100 of 300 rows of 'user_history' are"):
        place.result(made, progress=fall)
    assert versions(store_folder(place.home)) == []
    redis.start()
    done = place.result(made)
    assert done["mode"] == "resumed"
    assert 200 <= done["written"] <= 250
    after = content(place)
    client(redis).flushall()
    assert place.result(made)["mode"] == "full"
    assert content(place) == after


def test_redis_that_takes_commands_and_is_silent(
    redis_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = redis_place
    assert place.redis
    redis = place.redis
    monkeypatch.setattr(redis_client, "_TIMEOUT_S", 0.3)
    made = tables(tmp_path / "a", users(1))

    def hang(done: int, total: int, message: str) -> None:
        if message == "rows of user_history" and done >= 100:
            redis.hang()

    try:
        with pytest.raises(StoreDown, match="TimeoutError"):
            place.result(made, progress=hang)
    finally:
        redis.resume()
    assert place.result(made)["mode"] == "resumed"
    expected = {user: items for user, items, _ in users(1)}
    assert online_histories(place.home, expected) == expected


def test_redis_that_comes_back_empty_is_filled(redis_place: Place, tmp_path: Path) -> None:
    """In the middle of a run too: its rows would be without those before."""
    place = redis_place
    assert place.redis
    redis = place.redis
    made = tables(tmp_path / "a", users(1))
    emptied_once = False

    def empty(done: int, total: int, message: str) -> None:
        nonlocal emptied_once
        if message == "rows of user_history" and done >= 100 and not emptied_once:
            emptied_once = True
            client(redis).flushall()

    assert place.result(made, progress=empty)["written"] == USERS
    found = content(place)
    client(redis).flushall()
    assert place.result(made)["mode"] == "full"
    assert content(place) == found


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_process_killed_in_the_middle(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis: RedisServer
) -> None:
    server = redis if kind == "redis" else None
    place = make_place(kind, tmp_path / "home", monkeypatch, server)
    place.result(tables(tmp_path / "a", users(1)))
    made = tables(tmp_path / "b", users(2))
    script = (
        "import os, sys; from pathlib import Path; import feature_repo.materialize.run as run;"
        "from feature_repo.materialize import home; run._AT_ONCE = 50; home._TELL_S = 0;"
        "stop = lambda done, total, what: os.kill(os.getpid(), 9) if done == 150 else None;"
        "home.materialize(Path(sys.argv[1]), Path(sys.argv[2]), 'v2', stop)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(made), str(place.home)], check=False)
    assert killed.returncode == -9
    assert versions(store_folder(place.home)) == ["v1"]
    # Half of it is in. Data other than what was being written finds that too.
    other = place.result(tables(tmp_path / "c", users(1))) if kind == "sqlite" else None
    if other:
        assert other["mode"] == "full"
        assert online_histories(place.home, ["user-1"]) == {"user-1": users(1)[1][1]}
    done = place.result(made, "v2")
    assert (done["mode"], done["written"]) == (
        ("incremental", USERS) if other else ("resumed", USERS - 100)
    )
    after = content(place)
    emptied(place)
    place.result(made, "v2")
    assert content(place) == after


def test_two_at_once_end_with_the_newer_data(redis_place: Place, tmp_path: Path) -> None:
    """The older one is overtaken half-way."""
    place = redis_place
    older = tables(tmp_path / "old", users(1), covered=NOON)
    newer = tables(tmp_path / "new", users(2), covered=NOON + timedelta(hours=1))
    results = []

    def overtake(done: int, total: int, message: str) -> None:
        if message == "rows of user_history" and done >= 100 and not results:
            other = place._replace(home=tmp_path / "other home")
            results.append(None)
            results[0] = other.result(newer, "v2")

    done = place.result(older, progress=overtake)
    assert done["mode"] == "older"
    assert results[0]["written"] == USERS
    expected = {user: items for user, items, _ in users(2)}
    assert online_histories(place.home, expected) == expected
