"""Requests that come while Triton is busy share the next one; each gets its own answer."""

import asyncio
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest

from serving.transformer.errors import RequestFailed
from serving.transformer.merging import Job, Merger, Ranking
from serving.transformer.wire import pack, split_rows


class Triton:
    """Answers when told to; an answer is the histories that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None
        self.under_way = self.most = 0

    async def send(self, jobs: Sequence[Job]) -> list[Ranking]:
        self.asked.append([job.request_id for job in jobs])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        if self.fails:
            raise self.fails
        return [Ranking(pack(job.request_id), b"", 1) for job in jobs]


def job(name: str, rows: int = 1, length: int = 1) -> Job:
    return Job([["x"] * length] * rows, None, name)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_comes_meanwhile_shares_the_next_request() -> None:
    async def run() -> None:
        triton = Triton()
        merger = Merger(triton.send, concurrency=2, max_rows=8)
        asks = [asyncio.create_task(merger.ask(job(name))) for name in "abcdef"]
        await settle()
        assert triton.asked == [["a"], ["b"]]  # at once: nothing waits for company
        triton.go.set()
        answers = await asyncio.gather(*asks)
        assert [answer.item_ids for answer in answers] == [pack(name) for name in "abcdef"]
        assert triton.asked == [["a"], ["b"], ["c", "d", "e", "f"]]
        assert triton.most == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("jobs", "together"),
    [
        ([job("a", 3), job("b", 6), job("c", 4)], [["a", "c"], ["b"]]),  # 8 rows at most
        ([job("a", length=900), job("b", 3), job("c", length=800)], [["a", "c"], ["b"]]),
        ([job("a", 8), job("b")], [["a"], ["b"]]),
    ],
)
def test_requests_are_bounded_and_hardly_padded(jobs: list[Job], together: list[list[str]]) -> None:
    async def run() -> None:
        triton = Triton()
        merger = Merger(triton.send, concurrency=1, max_rows=8)
        asks = [asyncio.create_task(merger.ask(each)) for each in [job("first"), *jobs]]
        await settle()
        triton.go.set()
        await asyncio.gather(*asks)
        assert triton.asked == [["first"], *together]

    asyncio.run(run())


def test_a_failure_reaches_all_and_the_next_ones_go_on() -> None:
    async def run() -> None:
        triton = Triton()
        merger = Merger(triton.send, concurrency=1, max_rows=8)
        asks = [asyncio.create_task(merger.ask(job(name))) for name in "abc"]
        await settle()
        triton.fails = RequestFailed("Triton is away", "UNAVAILABLE")
        triton.go.set()
        failures = await asyncio.gather(*asks, return_exceptions=True)
        assert [(str(each), each.code) for each in failures if isinstance(each, RequestFailed)] == [
            ("Triton is away", "UNAVAILABLE")
        ] * 3
        triton.fails = None
        assert (await merger.ask(job("d"))).item_ids == pack("d")

    asyncio.run(run())


def test_who_gives_up_is_not_sent_and_delays_nobody() -> None:
    async def run() -> None:
        triton = Triton()
        merger = Merger(triton.send, concurrency=1, max_rows=8)
        asks = [asyncio.create_task(merger.ask(job(name))) for name in "abcd"]
        await settle()
        asks[1].cancel()  # waits
        asks[0].cancel()  # is under way: its place is free again
        await settle()
        triton.go.set()
        answers = await asyncio.gather(*asks, return_exceptions=True)
        assert [isinstance(each, Ranking) for each in answers] == [False, False, True, True]
        assert triton.asked == [["a"], ["c", "d"]]

    asyncio.run(run())


def test_closing_ends_what_waits() -> None:
    async def run() -> None:
        triton = Triton()
        merger = Merger(triton.send, concurrency=1, max_rows=8)
        first = asyncio.create_task(merger.ask(job("a")))
        second = asyncio.create_task(merger.ask(job("b")))
        await settle()
        first.cancel()
        await settle()
        await merger.close()
        assert (await asyncio.gather(first, second, return_exceptions=True))[1].__class__ in (
            asyncio.CancelledError,
        )

    asyncio.run(run())


def test_a_shared_answer_is_split_by_rows() -> None:
    rows = [["a", "bé"], ["", "c"], ["dd", "e"], ["f", "g"]]
    content = pack(value for row in rows for value in row)
    counts = [1, 2, 1]
    parts = split_rows(content, counts, 2)
    ends = [0, *accumulate(counts)]
    assert parts == [
        pack(value for row in rows[begin:end] for value in row) for begin, end in pairwise(ends)
    ]
