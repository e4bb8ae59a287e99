"""What the transformer accepts, tensor by tensor, and how it says no."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.transformer.errors import BadRequest
from serving.transformer.request import Limits, read_request
from serving.transformer.wire import first_columns, pack, pack_rows, short_rows, unpack

LIMITS = Limits(max_rows=4, max_k=10, max_ids=6)


class Tensor:
    """As kserve.InferInput: `data` is a list, or empty where the values are in raw bytes."""

    def __init__(self, name: Any, shape: Any, data: Any, datatype: str = "BYTES") -> None:
        self.name, self.shape, self.data, self.datatype = name, shape, data, datatype

    def as_numpy(self) -> np.ndarray:
        return np.array(self.data, dtype=object).reshape(self.shape)


class Request:
    """As kserve.InferRequest."""

    def __init__(
        self, *inputs: Tensor, outputs: Sequence[Tensor] = (), id: str | None = None
    ) -> None:
        self.inputs, self.request_outputs, self.id = inputs, list(outputs), id


def test_a_request_is_taken_apart() -> None:
    ask = read_request(
        Request(
            Tensor("user_id", [2], ["ann", b"b\xc3\xa9"]),
            Tensor("exclude", [2, 2], [["a", ""], ["b", "c"]]),
            Tensor("k", [1], [3], "INT32"),
            outputs=[
                Tensor("scores", [], []),
                Tensor("item_ids", [], []),
                Tensor("scores", [], []),
            ],
        ),
        LIMITS,
    )
    assert ask.user_ids == ["ann", "bé"]
    assert ask.exclude == [[b"a", b""], [b"b", b"c"]]
    assert (ask.rows, ask.k, ask.history) == (2, 3, None)
    assert ask.outputs == ("scores", "item_ids")


def test_an_id_that_triton_would_cut_off_is_refused() -> None:
    user = Tensor("user_id", [1], ["x"])
    assert read_request(Request(user, id="é-1"), LIMITS).rows == 1
    with pytest.raises(BadRequest, match=r"id: 'a.x00b'; allowed: a string without NUL"):
        read_request(Request(user, id="a\0b"), LIMITS)


def test_a_history_alone_is_enough_and_may_be_empty() -> None:
    ask = read_request(Request(Tensor("history", [2, 0], [])), LIMITS)
    assert (ask.rows, ask.history, ask.user_ids, ask.k) == (2, [[], []], None, None)
    assert read_request(Request(Tensor("user_id", [1, 1], ["x"])), LIMITS).user_ids == ["x"]


USER = Tensor("user_id", [1], ["x"])
BAD: list[tuple[list[Tensor], str]] = [
    ([], "a request needs 'user_id', or a 'history'"),
    ([Tensor("k", [1], [3], "INT64")], "a request needs 'user_id', or a 'history'"),
    ([Tensor("userid", [1], ["x"])], "unknown tensor 'userid'; allowed: user_id, history, excl"),
    ([USER, USER], "tensor 'user_id' is there twice"),
    ([Tensor("user_id", [1], [1], "INT64")], "user_id: datatype 'INT64'; allowed: BYTES"),
    (
        [Tensor("user_id", [1, 2], ["x", "y"])],
        r"user_id: shape \[1, 2\]; allowed: \[B\] or \[B, 1\]",
    ),
    ([Tensor("user_id", [], [])], r"user_id: shape \[\]"),
    ([Tensor("user_id", [0], [])], "user_id: 0 rows; allowed: 1 to 4"),
    ([Tensor("user_id", [5], list("abcde"))], "user_id: 5 rows; allowed: 1 to 4"),
    ([Tensor("user_id", [-1], ["x"])], r"user_id: shape \[-1\]; allowed: whole numbers from 0"),
    ([Tensor("user_id", ["1"], ["x"])], r"user_id: shape \['1'\]"),
    ([Tensor("user_id", [2], ["x"])], "user_id: 1 values; its shape asks for 2"),
    ([Tensor("user_id", [1], [7])], "user_id: 7 in row 0 is not a string"),
    ([Tensor("user_id", [1], [None])], "user_id: None in row 0 is not a string"),
    ([Tensor("user_id", [1], [b"\xff"])], r"user_id: b'\\xff' in row 0 is not UTF-8"),
    ([Tensor("user_id", [1], ["\ud800"])], "in row 0 is not UTF-8"),
    ([Tensor("user_id", [1], ["x" * 1025])], "an id of 1025 bytes in row 0; allowed: up to 1024"),
    ([Tensor("history", [1], ["x"])], r"history: shape \[1\]; allowed: \[B, number of ids\]"),
    ([Tensor("history", [1, 7], list("abcdefg"))], "history: 7 ids a row; allowed: up to 6"),
    ([Tensor("history", [1, 2], [["a"], "b"])], "history: its data mixes lists and values"),
    ([USER, Tensor("exclude", [2, 1], ["a", "b"])], "exclude: 2 rows beside 1"),
    ([USER, Tensor("k", [1, 1], [3], "INT64")], r"k: shape \[1, 1\]; allowed: \[1\]"),
    ([USER, Tensor("k", [1], [0], "INT64")], "k: 0; allowed: 1 to 10"),
    ([USER, Tensor("k", [1], [11], "INT64")], "k: 11; allowed: 1 to 10"),
    ([USER, Tensor("k", [1], [2.5], "INT64")], "k: 2.5 is not an integer"),
    ([USER, Tensor("k", [1], [True], "INT64")], "k: True is not an integer"),
    ([USER, Tensor("k", [1], ["3"], "FP32")], "k: datatype 'FP32'; allowed: INT64, INT32"),
]


@pytest.mark.parametrize(("inputs", "reason"), BAD)
def test_bad_requests_are_told_why(inputs: list[Tensor], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason) as refused:
        read_request(Request(*inputs), LIMITS)
    assert refused.value.code == "INVALID_ARGUMENT"


def test_unknown_outputs_are_refused() -> None:
    with pytest.raises(BadRequest, match="unknown tensor 'titles'; allowed: item_ids, scores"):
        read_request(Request(USER, outputs=[Tensor("titles", [], [])]), LIMITS)


def test_raw_bytes_that_do_not_parse_are_refused() -> None:
    class Broken(Tensor):
        def as_numpy(self) -> np.ndarray:
            raise struct.error("unpack_from requires a buffer of at least 9 bytes")

    with pytest.raises(BadRequest, match=r"user_id: its data does not fit shape \[1\]"):
        read_request(Request(Broken("user_id", [1], [])), LIMITS)


@given(st.lists(st.lists(st.text(max_size=5), max_size=4), min_size=1, max_size=4), st.data())
def test_bytes_tensors_survive_the_wire(rows: list[list[str]], data: st.DataObject) -> None:
    (count, width), content = pack_rows(rows)
    assert (count, width) == (len(rows), max(1, *map(len, rows)))
    padded = [row + [""] * (width - len(row)) for row in rows]
    assert unpack(content) == [value.encode() for row in padded for value in row]
    columns = data.draw(st.integers(1, width))
    first = [value.encode() for row in padded for value in row[:columns]]
    assert unpack(first_columns(content, count, width, columns)) == first
    assert pack(value for row in padded for value in row) == content


@pytest.mark.parametrize(
    ("rows", "short"),
    [
        ([["a", "b"], ["c", "d"]], 0),
        ([["a", "b"], ["c", ""], ["", ""], ["", "d"]], 3),
        ([["\0\0\0\0a", "b"], ["x" * 256, "y" * 65_536]], 0),  # bytes that look like an empty id
    ],
)
def test_short_answers_are_told_from_whole_ones(rows: list[list[str]], short: int) -> None:
    assert short_rows(b"".join(pack(row) for row in rows), 2) == short
