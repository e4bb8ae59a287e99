"""User histories out of real stores: right, and within the deadline when Redis dies or hangs."""

import asyncio
import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from feature_stores import (
    EXPECTED,
    SERVICE,
    RedisServer,
    redis_server,
    redis_store,
    sqlite_store,
)

from feature_repo.online.opening import StoreUnavailable, open_online
from feature_repo.online.reader import OnlineReader, StoredFeatures
from recommender.files import sha256_tree


def replace_content(source: Path, target: Path) -> None:
    """Everything of one database in place of another's, as one transaction."""
    with (
        contextlib.closing(sqlite3.connect(source)) as new,
        contextlib.closing(sqlite3.connect(target, timeout=30)) as old,
    ):
        old.execute("PRAGMA journal_mode=WAL").fetchall()
        new.backup(old)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis: RedisServer
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        return sqlite_store(folder / "store")
    return redis_store(folder, redis.port)


def read(store: Path, *requests: list[str], with_times: bool = False) -> list[list[StoredFeatures]]:
    """The answers to requests that are made at the same time."""

    async def ask() -> list[list[StoredFeatures]]:
        reader = OnlineReader(store, SERVICE, with_times)
        try:
            return await asyncio.gather(*(reader.read(request) for request in requests))
        finally:
            await reader.close()

    return asyncio.run(ask())


def test_each_user_gets_his_own_row_in_order(store: Path) -> None:
    users = [*EXPECTED, "u1", "nobody", "u3", "u1", ""]
    (rows,) = read(store, users)
    assert rows == [EXPECTED.get(user, StoredFeatures([], None)) for user in users]
    assert read(store, []) == [[]]


def test_a_reader_for_a_log_also_has_the_time_of_each_event(store: Path) -> None:
    ((three, many, empty, nobody),) = read(store, ["u1", "u3", "u2", "nobody"], with_times=True)
    last_us = int(datetime(2024, 3, 31, 1, 30, tzinfo=UTC).timestamp()) * 10**6
    assert list(three.times or ()) == [last_us - 2 * 10**6, last_us - 10**6, last_us]
    assert three[:2] == EXPECTED["u1"][:2]
    assert len(many.times or ()) == 200
    assert not empty.times
    assert not nobody.times


def test_requests_that_share_a_read_get_their_own_rows(store: Path) -> None:
    known = list(EXPECTED)
    requests = [[known[(start + step) % len(known)] for step in range(64)] for start in range(50)]
    assert read(store, *requests) == [[EXPECTED[user] for user in users] for users in requests]


def test_it_is_what_feast_answers(store: Path) -> None:
    opened = open_online(store)
    service = opened.get_feature_service(SERVICE)
    asked = [{"user_id": user} for user in EXPECTED]
    answer = opened.get_online_features(service, asked).to_dict()
    (rows,) = read(store, list(EXPECTED))
    assert [row.history for row in rows] == [history or [] for history in answer["history"]]


def test_reading_changes_nothing(tmp_path: Path) -> None:
    folder = sqlite_store(tmp_path / "store")
    before = sha256_tree(folder)
    read(folder, ["u1"])
    assert sha256_tree(folder) == before


def test_a_read_sees_all_of_the_old_or_all_of_the_new(tmp_path: Path) -> None:
    folder = sqlite_store(tmp_path / "store")
    newer = datetime(2025, 1, 1, tzinfo=UTC)
    sqlite_store(tmp_path / "new", {"u1": (["n1"], newer)})
    old = [EXPECTED["u1"], EXPECTED["u3"]]
    new = [StoredFeatures(["n1"], newer.timestamp()), StoredFeatures([], None)]

    async def ask() -> list[list[StoredFeatures]]:
        reader = OnlineReader(folder, SERVICE)
        answers = [await reader.read(["u1", "u3"])]
        files = tmp_path / "new" / "online.db", folder / "online.db"
        switch = asyncio.create_task(asyncio.to_thread(replace_content, *files))
        while not switch.done():
            answers.append(await reader.read(["u1", "u3"]))
        answers.append(await reader.read(["u1", "u3"]))
        await reader.close()
        return answers

    answers = asyncio.run(ask())
    assert answers[0] == old
    assert answers[-1] == new
    assert all(answer in (old, new) for answer in answers)


def test_a_read_does_not_wait_for_who_writes_anew(tmp_path: Path) -> None:
    folder = sqlite_store(tmp_path / "store")
    sqlite_store(tmp_path / "new", {"u1": (["n1"], datetime(2025, 1, 1, tzinfo=UTC))})
    replace_content(tmp_path / "new" / "online.db", folder / "online.db")

    async def ask() -> list[StoredFeatures]:
        reader = OnlineReader(folder, SERVICE)
        with contextlib.closing(sqlite3.connect(folder / "online.db")) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("DELETE FROM kuberec_user_history")
            async with asyncio.timeout(2):  # less than SQLite waits for a lock
                rows = await reader.read(["u1"])
            writer.rollback()
        await reader.close()
        return rows

    assert asyncio.run(ask())[0].history == ["n1"]


def test_event_times_are_right_in_another_time_zone(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path;"
        "from feature_stores import SERVICE, sqlite_store;"
        "from feature_repo.online.reader import OnlineReader;"
        "store = sqlite_store(Path(sys.argv[1]))\n"
        "async def read(): return await OnlineReader(store, SERVICE).read(['u1', 'u3'])\n"
        "print(*(row.event_time for row in asyncio.run(read())))"
    )
    # With summer time, in which u1's event is, and without, u3's.
    environment = os.environ | {
        "TZ": "America/New_York",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    times = [float(word) for word in told.stdout.split()[-2:]]
    assert times == [EXPECTED["u1"].event_time, EXPECTED["u3"].event_time]


def test_readers_leave_nothing_behind(store: Path) -> None:
    async def open_and_close() -> None:
        reader = OnlineReader(store, SERVICE)
        await asyncio.gather(*(reader.read(["u1"]) for _ in range(20)))
        await reader.close()

    def held() -> tuple[int, int]:
        gc.collect()  # a closed connection may be part of a cycle
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    asyncio.run(open_and_close())
    before = held()
    for _ in range(5):
        asyncio.run(open_and_close())
    end = time.monotonic() + 10
    while max(now - then for now, then in zip(held(), before, strict=True)) > 0:
        assert time.monotonic() < end, (held(), before)
        time.sleep(0.05)


def test_what_is_not_there_is_said_and_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"neither a folder nor a feature_store\.yaml"):
        OnlineReader(tmp_path / "none", SERVICE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreUnavailable, match=r"no 'registry\.db' in"):
        OnlineReader(tmp_path / "empty", SERVICE)
    settings = tmp_path / "feature_store.yaml"
    settings.write_text("project: kuberec")
    with pytest.raises(StoreUnavailable, match="names no registry"):
        OnlineReader(settings, SERVICE)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "feature_store.yaml"]

    folder = sqlite_store(tmp_path / "store")
    with pytest.raises(StoreUnavailable, match=r"'recommend_v2'.*materialise"):
        OnlineReader(folder, "recommend_v2")
    (folder / "online.db").unlink()
    with pytest.raises(StoreUnavailable, match=r"no 'online\.db' in"):
        OnlineReader(folder, SERVICE)
    sqlite3.connect(folder / "online.db").close()
    with pytest.raises(StoreUnavailable, match="no such table"):
        OnlineReader(folder, SERVICE)


def test_looking_for_a_store_that_is_not_there_does_not_import_feast(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from feature_repo.online.reader import OnlineReader\n"
        "try: OnlineReader(Path(sys.argv[1]), 'service')\n"
        "except Exception as error: print(type(error).__name__, 'feast' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["StoreUnavailable", "False"]
