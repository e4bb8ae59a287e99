"""Feature lookup when real stores die, hang, are locked or replaced: in time, and never wrong."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from feature_stores import (
    EXPECTED,
    SERVICE,
    RedisServer,
    postgres_store,
    redis_server,
    redis_store,
    sqlite_store,
)
from postgres_server import PostgresServer, postgres_server

from feature_repo.online.reader import OnlineReader
from serving.settings import TransformerConfig
from serving.transformer.features import FeatureSource, FeatureStatus, UserFeatures

DEADLINE_S = 0.25
CONFIG = TransformerConfig(lookup_timeout_s=DEADLINE_S)


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


@pytest.mark.parametrize("fault", ["kill", "hang"])
def test_postgres_dies_and_comes_back(tmp_path: Path, fault: str) -> None:
    """Rows and registry in one: whoever opens the store anew needs both."""
    users = ["u1", "u3", "ü4"]
    expected = [EXPECTED[user].history for user in users]

    async def live(server: PostgresServer, store: Path) -> None:
        source = await opened(store, reopen_s=0.2)
        assert histories(await source.lookup(users)) == expected
        await asyncio.to_thread(getattr(server, fault))
        end = time.monotonic() + 3
        while time.monotonic() < end:
            started = time.monotonic()
            found = await source.lookup(users)
            assert time.monotonic() - started < DEADLINE_S + 0.25
            assert histories(found) == [[], [], []]
            await asyncio.sleep(0.005)
        await asyncio.to_thread(server.start if fault == "kill" else server.resume)
        assert histories(await eventually(source, users, FeatureStatus.OK)) == expected
        await source.close()

    with postgres_server() as server:
        asyncio.run(live(server, postgres_store(tmp_path / "store", server)))


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
