"""Opening the feature store: in the background, again after failures, never in the way."""

import asyncio
import threading
import time
from itertools import pairwise

from feature_readers import NOW, FakeReader, breaks, run, settings, source_of, stored, until

from feature_repo.online.opening import StoreUnavailable
from serving.transformer.features import FeatureSource, FeatureStatus


def test_a_store_that_comes_later_is_found() -> None:
    missing = StoreUnavailable("no feature store yet")
    source = source_of(settings(), missing, missing, FakeReader())

    async def live() -> list[str]:
        first = await source.lookup(["fresh"])
        await asyncio.sleep(0.2)
        return [str(row.status) for row in [*first, *await source.lookup(["fresh"])]]

    assert run(source, live) == ["fallback_unavailable", "ok"]


def test_a_broken_reader_is_replaced_and_closed() -> None:
    broken, good = FakeReader(breaks), FakeReader()
    source = source_of(settings(), broken, good)

    async def live() -> None:
        assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.FALLBACK_ERROR
        await until(lambda: broken.closed)
        assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.OK

    run(source, live)
    assert good.closed


def test_a_broken_reader_stays_in_use_while_no_other_opens() -> None:
    reader = FakeReader(breaks)
    source = source_of(settings(), reader, StoreUnavailable("the registry is away"))

    async def live() -> None:
        assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.FALLBACK_ERROR
        await asyncio.sleep(0.1)
        reader.answer = stored
        assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.OK

    run(source, live)


def test_opening_blocks_nobody_and_is_tried_once_at_a_time() -> None:
    release, opened = threading.Event(), []

    def open_reader() -> FakeReader:
        opened.append(time.monotonic())
        release.wait()
        return FakeReader()

    source = FeatureSource(settings(), open_reader, lambda: NOW, 0.01)

    async def live() -> None:
        await source.start()
        assert source.opening
        for _ in range(50):
            (row,) = await source.lookup(["fresh"])
            assert row.status is FeatureStatus.FALLBACK_UNAVAILABLE
            await asyncio.sleep(0.001)
        assert len(opened) == 1
        release.set()
        await until(lambda: not source.opening)
        assert (await source.lookup(["fresh"]))[0].status is FeatureStatus.OK
        await source.close()

    asyncio.run(live())


def test_attempts_to_open_keep_their_distance() -> None:
    attempts = []

    def open_reader() -> FakeReader:
        attempts.append(time.monotonic())
        raise StoreUnavailable("none")

    source = FeatureSource(settings(), open_reader, lambda: NOW, 0.1)

    async def live() -> None:
        for _ in range(100):
            await source.lookup(["fresh"])
            await asyncio.sleep(0.005)

    run(source, live)
    assert 2 <= len(attempts) <= 8
    assert min(b - a for a, b in pairwise(attempts)) >= 0.1


def test_it_can_be_closed_while_it_opens() -> None:
    release = threading.Event()

    def open_reader() -> FakeReader:
        release.wait()
        return FakeReader()

    source = FeatureSource(settings(), open_reader, lambda: NOW)

    async def live() -> None:
        await source.start()
        await asyncio.sleep(0.01)
        await source.close()

    asyncio.run(asyncio.wait_for(live(), 2))
    release.set()
