"""The sample of clients' requests: uniform, bounded in number, size and age."""

import json
from collections import Counter

import pytest

from serving.transformer.request import Ask
from serving.transformer.sample import RequestSample


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def users(*names: str) -> Ask:
    return Ask(len(names), list(names), None, None, None, ())


def drawn(sample: RequestSample, limit: int = 10_000) -> list[str]:
    return [json.loads(row)["user_id"] for row in sample.draw(limit)]


def test_rows_are_as_they_were_sent_without_padding() -> None:
    sample = RequestSample(10, 60)
    sample.offer(
        Ask(2, ["ann", "bé"], [[b"a", b"b"], [b"", b""]], [[b"x", b""], [b"y", b"z"]], 3, ())
    )
    sample.offer(users("ann"))
    rows = sorted((json.loads(row) for row in sample.draw(10)), key=str)
    assert rows == [
        {"user_id": "ann", "history": None, "exclude": [], "k": None},
        {"user_id": "ann", "history": ["a", "b"], "exclude": ["x"], "k": 3},
        {"user_id": "bé", "history": [], "exclude": ["y", "z"], "k": 3},
    ]


def test_a_history_alone_has_no_user() -> None:
    sample = RequestSample(10, 60)
    sample.offer(Ask(1, None, [[b"a"]], None, None, ()))
    assert json.loads(sample.draw(1)[0])["user_id"] is None


def test_off_keeps_nothing() -> None:
    sample = RequestSample(0, 60)
    sample.offer(users("ann"))
    assert sample.draw(10) == []


def test_no_more_than_size_and_no_more_than_asked_for_in_changing_order() -> None:
    sample = RequestSample(20, 60)
    for number in range(1000):
        sample.offer(users(str(number)))
    assert len(set(drawn(sample))) == 20
    assert len(drawn(sample, 3)) == 3
    assert len({tuple(drawn(sample)) for _ in range(5)}) == 5
    assert {name for _ in range(200) for name in drawn(sample, 3)} == set(drawn(sample))


def test_a_batch_counts_row_by_row() -> None:
    sample = RequestSample(5, 60)
    sample.offer(users(*"abcdefgh"))
    assert len(drawn(sample)) == 5
    assert set(drawn(sample)) <= set("abcdefgh")


def test_rows_are_forgotten() -> None:
    clock = Clock()
    sample = RequestSample(10, 100, clock)
    sample.offer(users("old"))
    clock.now += 50
    sample.offer(users("new"))
    assert sorted(drawn(sample)) == ["new", "old"]
    clock.now += 50
    assert drawn(sample) == ["new"]
    clock.now += 50
    assert drawn(sample) == []


def test_a_row_that_is_too_long_is_left_out_and_costs_no_place() -> None:
    sample = RequestSample(2, 60)
    for _ in range(20):
        sample.offer(Ask(1, ["long"], None, [[b"x" * 1000] * 20], None, ()))
        sample.offer(users("short"))
    assert drawn(sample) == ["short", "short"]


def test_every_row_of_the_window_is_as_likely() -> None:
    """The rush at its end has nine rows in ten of it, and so has the sample."""
    found: Counter[str] = Counter()
    for _ in range(400):
        clock = Clock()
        sample = RequestSample(10, 100, clock)
        for second in range(95):
            kind = "early" if second < 45 else "late"
            for _ in range(1 if kind == "early" else 9):
                sample.offer(users(kind))
            clock.now += 1
        found.update(drawn(sample))
    assert found.total() == 4000
    share = found["early"] / found.total()
    expected = 45 / (45 + 50 * 9)  # 0.091, with a standard deviation of 0.0045
    assert share == pytest.approx(expected, abs=5 * 0.0045)


def test_old_slices_keep_only_what_can_still_be_needed() -> None:
    clock = Clock()
    sample = RequestSample(100, 100, clock)
    for _ in range(99):
        sample.offer(users(*map(str, range(100))))
        clock.now += 1
    held = sum(len(rows) for _, rows in sample._slices)
    # 100 × (1 + 1/2 + … + 1/10) = 293 on average, and 100 unpruned of the last one
    assert 200 <= held <= 450
    assert len(drawn(sample)) == 100
