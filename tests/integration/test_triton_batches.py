"""What Triton merges, and that a request that fails in a batch fails alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tiny_version import (
    MAX_LENGTH,
    build_tiny_ranker,
    catalogue,
    tiny_graphs,
    write_tiny_repository,
)
from triton_metrics import metric
from tritonclient.utils import InferenceServerException

from serving.parity import golden_answers, triton_answers
from serving.settings import TritonConfig
from serving.triton.repository import write_repository
from serving.triton.server import TritonServer, temporary_triton

pytestmark = pytest.mark.timeout(60)

# Four requests become one batch: Triton waits for them, and no longer.
FOUR = TritonConfig(preferred_batch_sizes=[4], max_queue_delay_us=2_000_000)
LENGTHS = (0, 1, 2, 5)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_repository(tmp_path_factory.mktemp("v") / "v", catalogue(), config=FOUR)


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with temporary_triton(repository, tmp_path_factory.mktemp("triton")) as server:
        yield server


def at_once(server: TritonServer, requests: list[dict[str, list[str]]]) -> list[Any]:
    """Each request's answer, or what it raised; fails unless all of them were one batch."""

    def ask(request: dict[str, list[str]]) -> Any:
        try:
            return triton_answers(server.grpc_url, [request])[0]
        except InferenceServerException as error:
            return error

    before = metric(server, "exec_count", "recommend")
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(ask, requests))
    assert metric(server, "exec_count", "recommend") == before + 1
    return answers


@pytest.mark.parametrize("excludes", [(0, 0, 0, 0), (1, 2, 1, 3)], ids=["absent", "given"])
def test_histories_of_different_lengths_share_a_batch(
    repository: Path, triton: TritonServer, excludes: tuple[int, ...]
) -> None:
    requests = [
        {
            "history": [f"item-{3 * place + 1}" for place in range(length)],
            "exclude": [f"item-{place + 2}" for place in range(excluded)],
        }
        for length, excluded in zip(LENGTHS, excludes, strict=True)
    ]
    found, expected = at_once(triton, requests), golden_answers(repository, requests)
    assert [answer.item_ids for answer in found] == [answer.item_ids for answer in expected]


def test_a_request_that_the_ranker_fails_on_fails_alone(tmp_path: Path) -> None:
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    onnx.save(build_tiny_ranker(10), ranker)  # knows fewer items than lookup: an index too far
    write_repository(tmp_path / "v", lookup, ranker, decode, FOUR)
    good = [{"history": [f"item-{number}"]} for number in (1, 2, 3)]
    with temporary_triton(tmp_path / "v", tmp_path / "triton") as server:
        bad, *found = at_once(server, [{"history": ["item-30"]}, *good])
    assert "out of" in str(bad)
    assert found == golden_answers(tmp_path / "v", good)


def test_a_request_that_lookup_fails_on_fails_alone(tmp_path: Path) -> None:
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    onnx.save(lookup_up_to(MAX_LENGTH, onnx.load(lookup)), lookup)
    write_repository(tmp_path / "v", lookup, ranker, decode, FOUR)
    good = [{"history": [f"item-{number}"]} for number in (1, 2, 3)]
    long = {"history": ["item-1"] * (MAX_LENGTH + 1)}
    with temporary_triton(tmp_path / "v", tmp_path / "triton") as server:
        bad, *found = at_once(server, [long, *good])
    assert "out of" in str(bad)
    assert found == golden_answers(tmp_path / "v", good)


def lookup_up_to(length: int, model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, but it fails on a longer history: it takes a number from a table by its length."""
    graph, node = model.graph, helper.make_node
    for each in graph.node:
        each.output[:] = ["plain" if name == "history_ids" else name for name in each.output]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(1), "second"),
            numpy_helper.from_array(np.zeros(length + 1, dtype=np.int64), "table"),
        ]
    )
    graph.node.extend(
        [
            node("Shape", ["history"], ["shape"]),
            node("Gather", ["shape", "second"], ["length"]),
            node("Gather", ["table", "length"], ["nothing"]),
            node("Add", ["plain", "nothing"], ["history_ids"]),
        ]
    )
    onnx.checker.check_model(model)
    return model
