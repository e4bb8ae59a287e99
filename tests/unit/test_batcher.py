"""Merging reads: who asks gets his own rows, and nothing is left of who gave up."""

import asyncio

import pytest

from feature_repo.online.batching import Batcher
from feature_repo.online.reader import MAX_KEYS, read_room


class Store:
    """Rows are the keys, negated; a read waits for `go`."""

    def __init__(self, lanes: int = 1, stoppable: bool = True) -> None:
        self.reads: list[list[int]] = []
        self.stopped = 0
        self.go = asyncio.Event()
        self.batches: Batcher[int, int] = Batcher(self.fetch, lanes, read_room, stoppable)

    async def fetch(self, keys: list[int]) -> list[int]:
        self.reads.append(keys)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if 13 in keys:
            raise OSError("unlucky")
        return [-key for key in keys]

    def ask(self, *keys: int) -> "asyncio.Future[list[int]]":
        return self.batches.ask(list(keys))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_is_asked_meanwhile_goes_together() -> None:
    async def live() -> None:
        store = Store()
        asked = [store.ask(1, 2)]
        await settle()
        asked += [store.ask(3), store.ask(4, 4), store.ask(5)]
        await settle()
        assert store.reads == [[1, 2]]
        store.go.set()
        assert await asyncio.gather(*asked) == [[-1, -2], [-3], [-4, -4], [-5]]
        assert store.reads == [[1, 2], [3, 4, 4, 5]]

    asyncio.run(live())


def test_a_read_has_a_limit_of_keys_and_nobody_is_split() -> None:
    async def live() -> None:
        store = Store()
        store.go.set()
        half = list(range(100, 100 + MAX_KEYS // 2))
        asked = [store.ask(*half), store.ask(*half), store.ask(7), store.ask(*half, *half, 8)]
        answers = await asyncio.gather(*asked)
        assert [len(answer) for answer in answers] == [len(half), len(half), 1, MAX_KEYS + 1]
        assert [len(read) for read in store.reads] == [MAX_KEYS, 1, MAX_KEYS + 1]

    asyncio.run(live())


def test_no_more_reads_at_a_time_than_lanes() -> None:
    async def live() -> None:
        store = Store(lanes=2)
        asked = []
        for key in range(5):
            asked.append(store.ask(key))
            await settle()
        assert store.reads == [[0], [1]]
        store.go.set()
        assert await asyncio.gather(*asked) == [[0], [-1], [-2], [-3], [-4]]
        assert store.reads[2:] == [[2, 3, 4]]

    asyncio.run(live())


def test_an_error_reaches_all_who_shared_the_read_and_no_other() -> None:
    async def live() -> None:
        store = Store()
        store.go.set()
        together = [store.ask(1), store.ask(13)]
        for asked in together:
            with pytest.raises(OSError, match="unlucky"):
                await asked
        assert await store.ask(2) == [-2]

    asyncio.run(live())


@pytest.mark.parametrize("stoppable", [True, False])
def test_who_gives_up_leaves_nothing(stoppable: bool) -> None:
    async def live() -> None:
        store = Store(stoppable=stoppable)
        reading = [store.ask(1), store.ask(2)]
        await settle()
        waiting = [store.ask(key) for key in range(100)]
        await settle()
        for asked in [reading[0], *waiting]:
            asked.cancel()
        await settle()
        assert store.stopped == 0  # one still waits for it
        reading[1].cancel()
        await settle()
        assert store.stopped == stoppable
        assert store.reads == [[1, 2]]
        last = store.ask(3)
        await settle()
        assert store.reads == ([[1, 2], [3]] if stoppable else [[1, 2]])
        store.go.set()
        assert await last == [-3]

    asyncio.run(live())


def test_closing_answers_everybody() -> None:
    async def live() -> None:
        store = Store()
        asked = [store.ask(1)]
        await settle()
        asked.append(store.ask(2))
        await settle()
        store.batches.close(OSError("closed"))
        asked.append(store.ask(3))
        for one in asked:
            with pytest.raises(OSError, match="closed"):
                await one
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(live())
