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
    HISTORIES,
    SERVICE,
    RedisServer,
    redis_server,
    redis_store,
    sqlite_store,
)

from feature_repo.online import _replace_content
from feature_repo.online_reader import OnlineReader, StoredFeatures
from feature_repo.online_store import StoreUnavailable, open_online
from recommender.files import sha256_tree
from serving.settings import TransformerConfig
from serving.transformer.features import FeatureSource, FeatureStatus, UserFeatures

EXPECTED = {
    user: StoredFeatures(history or [], moment.timestamp())
    for user, (history, moment) in HISTORIES.items()
} | {"nobody": StoredFeatures([], None)}
DEADLINE_S = 0.25
CONFIG = TransformerConfig(lookup_timeout_s=DEADLINE_S)


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


def read(store: Path, *requests: list[str]) -> list[list[StoredFeatures]]:
    """The answers to requests that are made at the same time."""

    async def ask() -> list[list[StoredFeatures]]:
        reader = OnlineReader(store, SERVICE)
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
        switch = asyncio.create_task(asyncio.to_thread(_replace_content, *files))
        while not switch.done():
            answers.append(await reader.read(["u1", "u3"]))
        answers.append(await reader.read(["u1", "u3"]))
        await reader.close()
        return answers

    answers = asyncio.run(ask())
    assert answers[0] == old
    assert answers[-1] == new
    assert all(answer in (old, new) for answer in answers)


def test_another_file_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    folder = sqlite_store(tmp_path / "store")
    sqlite_store(tmp_path / "new", {"u1": (["n1"], datetime(2025, 1, 1, tzinfo=UTC))})

    async def ask() -> list[UserFeatures]:
        source = await opened(folder, reopen_s=0.05)
        (tmp_path / "new" / "online.db").replace(folder / "online.db")
        (first,) = await source.lookup(["u1"])
        (last,) = await eventually(source, ["u1"], FeatureStatus.OK)
        await source.close()
        return [first, last]

    first, last = asyncio.run(ask())
    assert first.status is FeatureStatus.FALLBACK_ERROR
    assert last.history == ["n1"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_event_times_are_right_in_any_time_zone(tmp_path: Path, zone: str) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path;"
        "from feature_stores import SERVICE, sqlite_store;"
        "from feature_repo.online_reader import OnlineReader;"
        "store = sqlite_store(Path(sys.argv[1]));"
        "print(asyncio.run(OnlineReader(store, SERVICE).read(['u1']))[0].event_time)"
    )
    environment = os.environ | {"TZ": zone, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, str(tmp_path / "store")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(told.stdout.split()[-1]) == EXPECTED["u1"].event_time


def test_readers_leave_nothing_behind(store: Path) -> None:
    async def open_and_close() -> None:
        reader = OnlineReader(store, SERVICE)
        await asyncio.gather(*(reader.read(["u1"]) for _ in range(20)))
        await reader.close()

    def held() -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    asyncio.run(open_and_close())
    before = held()
    for _ in range(5):
        asyncio.run(open_and_close())
    assert held() <= before


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
        "from feature_repo.online_reader import OnlineReader\n"
        "try: OnlineReader(Path(sys.argv[1]), 'service')\n"
        "except Exception as error: print(type(error).__name__, 'feast' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["StoreUnavailable", "False"]


async def opened(store: Path, reopen_s: float = 3.0) -> FeatureSource:
    source = FeatureSource(CONFIG, lambda: OnlineReader(store, SERVICE), reopen_s=reopen_s)
    await source.start()
    while source.opening:
        await asyncio.sleep(0.01)
    return source


async def eventually(
    source: FeatureSource, users: list[str], status: FeatureStatus, within_s: float = 20.0
) -> list[UserFeatures]:
    """Ask until all have `status`; every answer must be a fallback or right, and in time."""
    end = time.monotonic() + within_s
    while True:
        started = time.monotonic()
        found = await source.lookup(users)
        took = time.monotonic() - started
        assert took < DEADLINE_S + 0.25, f"{took:.3f} s"
        if all(row.status is status for row in found):
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.005)


def histories(found: list[UserFeatures]) -> list[list[str]]:
    return [list(row.history) for row in found]  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["kill", "hang"])
def test_redis_dies_and_comes_back(tmp_path: Path, fault: str) -> None:
    users = ["u1", "u3", "ü4"]
    expected = [EXPECTED[user].history for user in users]

    async def live(server: RedisServer, store: Path) -> list[float]:
        source = await opened(store)
        assert histories(await source.lookup(users)) == expected
        getattr(server, fault)()
        started = time.monotonic()
        waited = []
        async with asyncio.TaskGroup() as group:  # 8 at a time, for 3 s
            for _ in range(8):
                group.create_task(ask_for(source, 3.0, waited))
        assert time.monotonic() - started < 4
        server.start() if fault == "kill" else server.resume()
        found = await eventually(source, users, FeatureStatus.OK)
        assert histories(found) == expected
        await source.close()
        return waited

    async def ask_for(source: FeatureSource, seconds: float, waited: list[float]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            found = await source.lookup(users)
            waited.append(time.monotonic() - started)
            assert histories(found) == [[], [], []]
            assert {row.status for row in found} <= {
                FeatureStatus.FALLBACK_TIMEOUT,
                FeatureStatus.FALLBACK_ERROR,
            }
            await asyncio.sleep(0.005)

    with redis_server(tmp_path) as server:
        waited = asyncio.run(live(server, redis_store(tmp_path / "store", server.port)))
    assert max(waited) < DEADLINE_S + 0.25
    # Once it is known to be away, nearly all are answered at once.
    assert sum(wait > DEADLINE_S / 2 for wait in waited) < 0.1 * len(waited), sorted(waited)[-50:]


def test_nobody_gets_what_another_gave_up_waiting_for(tmp_path: Path) -> None:
    """A connection that was left in the middle of an answer must not be used again."""

    async def live(server: RedisServer, store: Path) -> int:
        source = await opened(store)
        known = [user for user in EXPECTED if user != "nobody"]
        right = 0

        async def ask(worker: int) -> None:
            nonlocal right
            for step in range(300):
                user = known[(worker + step) % len(known)]
                (row,) = await source.lookup([user])
                if row.status is FeatureStatus.OK:
                    assert list(row.history) == EXPECTED[user].history
                    right += 1
                await asyncio.sleep(0.002)

        async def disturb() -> None:
            for _ in range(8):
                server.hang()
                await asyncio.sleep(DEADLINE_S * 1.2)
                server.resume()
                await asyncio.sleep(0.3)

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(ask(worker) for worker in range(8)))
        await disturbing
        await source.close()
        return right

    with redis_server(tmp_path) as server:
        right = asyncio.run(live(server, redis_store(tmp_path / "store", server.port)))
    assert right > 100


def test_a_locked_sqlite_file_ends_with_its_lock(tmp_path: Path) -> None:
    folder = sqlite_store(tmp_path / "store")

    async def live() -> None:
        source = await opened(folder)
        with contextlib.closing(sqlite3.connect(folder / "online.db")) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            started = time.monotonic()
            (row,) = await source.lookup(["u1"])
            assert row.status is FeatureStatus.FALLBACK_TIMEOUT
            assert time.monotonic() - started < DEADLINE_S + 0.25
            # Many more, and none has a thread of its own.
            threads = threading.active_count()
            found = await asyncio.gather(*(source.lookup(["u1"]) for _ in range(200)))
            assert {row.status for (row,) in found} == {FeatureStatus.FALLBACK_TIMEOUT}
            assert threading.active_count() == threads
            writer.rollback()
        (row,) = await eventually(source, ["u1"], FeatureStatus.OK)
        assert row.history == EXPECTED["u1"].history
        await source.close()

    asyncio.run(live())
