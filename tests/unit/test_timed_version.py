"""Times of events from a request to the ranker: what serving's graphs make of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recommender_data import TINY, vocabulary
from timed_version import ITEMS, NOW, REQUESTS, TIMES, K, timed_model, write_timed_version

from recommender.export import torch_onnx_parity
from recommender.onnx_session import open_session
from recommender.sequences import Vocabulary, pad
from serving.client.requests import build_request
from serving.handover import looked_up
from serving.parity import golden_answers, look_up
from serving.transformer.errors import BadRequest
from serving.transformer.request import Limits, read_request
from serving.transformer.sample import _encode
from serving.transformer.wire import pack_times
from serving.triton.repository import graph_path
from serving.version import load_version


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_timed_version(tmp_path_factory.mktemp("timed") / "v", "v")


def test_lookup_keeps_each_time_beside_its_item(version: Path) -> None:
    lookup = open_session(graph_path(version, "lookup"))
    found = look_up(lookup, REQUESTS[0])
    known = TIMES["apart"][:1] + TIMES["apart"][2:]
    encoded = Vocabulary(vocabulary()).encode(ITEMS)
    assert found["history_ids"].tolist() == pad([encoded], TINY.max_length).tolist()
    assert found["event_times"].tolist() == pad([np.array(known)], TINY.max_length).tolist()
    long = {"history": [*vocabulary()[:15], "gone"], "history_times": range(1, 17)}
    assert look_up(lookup, long)["event_times"].tolist() == [list(range(6, 16))]
    for left_out in ({"history": ITEMS}, {"history": []}):
        assert not look_up(lookup, left_out)["event_times"].any()


def test_onnx_answers_as_torch_does_and_by_the_times(version: Path) -> None:
    inputs = looked_up(graph_path(version, "lookup"), REQUESTS)
    parity = torch_onnx_parity(timed_model(), graph_path(version, "ranker"), *inputs)
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4
    close, apart, unknown = (
        answer.scores
        for answer in golden_answers(
            version, [{"history": ITEMS, "history_times": each} for each in TIMES.values()]
        )
    )
    assert apart != close != unknown != apart
    items = torch.from_numpy(Vocabulary(vocabulary()).encode(ITEMS))[None]
    times = torch.tensor(TIMES["close"])[[0, 2, 3]][None]  # without the unknown item's
    scores = timed_model()(items, times)[0].detach()
    scores[[0, *items[0].tolist()]] = -torch.inf
    np.testing.assert_allclose(close, scores.topk(K).values, atol=1e-4)


def test_the_version_says_that_it_reads_times_and_keeps_golden_ones(version: Path) -> None:
    loaded = load_version(version)
    assert loaded.times
    assert [each.asked() for each in loaded.golden()] == REQUESTS


class _Tensor:
    def __init__(self, name: str, shape: list[int], data: list[object], kind: str) -> None:
        self.name, self.shape, self.data, self.datatype = name, shape, data, kind


class _Request:
    def __init__(self, *inputs: _Tensor) -> None:
        self.inputs, self.request_outputs, self.id = inputs, [], None


HISTORY = _Tensor("history", [1, 3], ["a", "", "b"], "BYTES")


def _times(shape: list[int], data: list[object]) -> _Tensor:
    return _Tensor("history_times", shape, data, "INT64")


def test_a_client_s_times_are_read_and_sampled_beside_their_items() -> None:
    limits = Limits(max_rows=4, max_k=10, max_ids=6)
    ask = read_request(_Request(HISTORY, _times([1, 3], [NOW, 0, NOW + 5])), limits)
    assert ask.times == [[NOW, 0, NOW + 5]]
    assert f'"history_times":[{NOW},{NOW + 5}]'.encode() in _encode(ask, 0)
    assert pack_times([[1, 2], None], 3)[1] == np.array([[1, 2, 0], [0, 0, 0]], "<i8").tobytes()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((_Tensor("user_id", [1], ["u"], "BYTES"), _times([1, 1], [5])), "there is no 'history'"),
        ((HISTORY, _times([1, 2], [5, 6])), r"shape \[1, 2\]; allowed: \[1, 3\]"),
        ((HISTORY, _times([1, 3], [5, 6, 7.5])), "7.5 is not an integer"),
        ((HISTORY, _times([1, 3], [5, 6, 2**63])), "no 64-bit number"),
    ],
)
def test_wrong_times_are_named(inputs: tuple[_Tensor, ...], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_request(_Request(*inputs), Limits(max_rows=4, max_k=10, max_ids=6))


def test_the_client_s_times_are_one_an_item() -> None:
    request = build_request(None, [["a"], ["b", "c"]], None, None, None, [[1], [2, 3]])
    assert request.inputs[1].name == "history_times"
    assert request.raw_input_contents[1] == np.array([[1, 0], [2, 3]], "<i8").tobytes()
    with pytest.raises(ValueError, match="give one an item"):
        build_request(None, [["a", "b"]], None, None, None, [[1]])
