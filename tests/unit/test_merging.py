"""Requests that come while Triton is busy share the next one to it, within bounds."""

import asyncio
from itertools import accumulate, pairwise

import pytest

from feature_repo.online.batching import Batcher
from serving.transformer.merging import Job, Ranking, room_for
from serving.transformer.wire import pack, split_rows


def job(name: str, rows: int = 1, length: int = 1) -> Job:
    return Job([["x"] * length] * rows, None, name)


@pytest.mark.parametrize(
    ("jobs", "together"),
    [
        ([job("a"), job("b"), job("c")], [["a", "b", "c"]]),
        ([job("a", 3), job("b", 6), job("c", 4)], [["a", "c"], ["b"]]),  # 8 rows at most
        ([job("a", length=900), job("b", 3), job("c", length=800)], [["a", "c"], ["b"]]),
        ([job("a", 8), job("b")], [["a"], ["b"]]),
    ],
)
def test_requests_are_bounded_and_hardly_padded(jobs: list[Job], together: list[list[str]]) -> None:
    asked: list[list[str]] = []
    go = asyncio.Event()

    async def send(batch: list[Job]) -> list[Ranking]:
        asked.append([each.request_id for each in batch])
        await go.wait()
        return [Ranking(pack(each.request_id), b"", 1) for each in batch]

    async def run() -> None:
        batcher: Batcher[Job, Ranking] = Batcher(send, 1, room_for(8), stoppable=True)
        answers = [batcher.ask([job("first")])]
        await asyncio.sleep(0)
        answers += [batcher.ask([each]) for each in jobs]
        await asyncio.sleep(0)
        assert asked == [["first"]]  # at once: nothing waits for company
        go.set()
        found = [answer.item_ids for (answer,) in await asyncio.gather(*answers)]
        assert found == [pack(name) for name in ["first", *(each.request_id for each in jobs)]]
        assert asked == [["first"], *together]

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
