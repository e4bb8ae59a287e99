"""The contract of a model version, on a real Triton over gRPC and HTTP."""

import importlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tiny_version import (
    REQUESTS,
    K,
    catalogue,
    write_tiny_version,
)
from triton_metrics import metric
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.parity import check_on_triton, golden_answers, parity, triton_answers
from serving.triton.repository import EMBEDDED, STAGES
from serving.triton.server import TritonFailed, TritonServer, start_triton, temporary_triton

POPULAR = ["item-1", "item-2", "item-3", "item-4", "item-5"]  # the tiny ranker's popularity falls

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("v") / "v", catalogue(), "0123456789ab")


@pytest.fixture(scope="module", params=[EMBEDDED, STAGES])
def variant(request: pytest.FixtureRequest) -> str:
    """As the embedded server serves, and the ensemble as the full image has it."""
    return str(request.param)


@pytest.fixture(scope="module")
def triton(
    version: Path, variant: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with temporary_triton(version, tmp_path_factory.mktemp("triton"), variant=variant) as server:
        yield server


@pytest.fixture(params=["grpc", "http"])
def ask(request: pytest.FixtureRequest, triton: TritonServer) -> Iterator[Any]:
    """A function (history rows, exclude rows or None) -> item ids, by Triton's own clients."""
    module = importlib.import_module(f"tritonclient.{request.param}")
    url = {"grpc": triton.grpc_url, "http": triton.http_url}[request.param]
    with module.InferenceServerClient(url) as client:

        def ask(
            history: list[list[str]], exclude: list[list[str]] | None = None
        ) -> list[list[str]]:
            inputs = []
            for name, rows in (("history", history), ("exclude", exclude)):
                if rows is not None:
                    table = np.array(rows, dtype=object).reshape(len(rows), -1)
                    inputs.append(module.InferInput(name, list(table.shape), "BYTES"))
                    inputs[-1].set_data_from_numpy(table)
            result = client.infer("recommend", inputs)
            assert result.as_numpy("scores").shape == (len(history), K)
            return [[item.decode() for item in row] for row in result.as_numpy("item_ids")]

        yield ask


def test_empty_and_unknown_histories_give_popular_items(ask: Any) -> None:
    assert ask([[]]) == [POPULAR]
    assert ask([[""]]) == [POPULAR]
    assert ask([["nobody knows", "these", "ÿ"]]) == [POPULAR]


def test_unknown_ids_are_skipped(ask: Any) -> None:
    assert ask([["x", "item-3", "", "y", "item-9"]]) == ask([["item-3", "item-9"]])


def test_seen_and_excluded_items_are_masked(ask: Any) -> None:
    assert not {"item-1", "item-2"} & set(ask([["item-1", "item-2"]])[0])
    best, *others = ask([["item-9"]], [["gone"]])[0]
    assert ask([["item-9"]], [[best]])[0][: K - 1] == others


def test_absent_and_empty_exclude_are_the_same(ask: Any) -> None:
    history = [["item-9", "item-4"]]
    assert ask(history) == ask(history, [[]]) == ask(history, [[""]])


def test_a_batch_of_mixed_lengths_equals_single_requests(ask: Any) -> None:
    rows = [["item-3", "", ""], ["", "", ""], ["item-9", "item-4", "item-1"]]
    excludes = [["item-1", ""], ["", ""], ["item-2", "item-5"]]
    singles = [
        ask([[i for i in row if i]], [[i for i in exclude if i]])[0]
        for row, exclude in zip(rows, excludes, strict=True)
    ]
    assert ask(rows, excludes) == singles


def test_parity_of_onnx_runtime_and_triton(version: Path, tmp_path: Path) -> None:
    found = check_on_triton(version, tmp_path / "work")
    assert list(found) == ["grpc", "http", "one process"]
    for result in found.values():
        assert result["requests"] == len(REQUESTS)
        assert result["min_overlap"] == 1.0
        assert result["max_abs_score_diff"] < 1e-5


def test_concurrent_requests_of_mixed_lengths(
    version: Path, variant: str, triton: TritonServer
) -> None:
    rng = np.random.default_rng(0)
    requests = [
        {
            "history": [f"item-{i}" for i in rng.integers(1, 50, rng.integers(0, 30))],
            "exclude": [f"item-{i}" for i in rng.integers(1, 50, rng.integers(0, 3))],
        }
        for _ in range(200)
    ]
    expected = golden_answers(version, requests)
    with ThreadPoolExecutor(16) as pool:
        shares = [requests[start::16] for start in range(16)]
        found = list(pool.map(lambda share: triton_answers(triton.grpc_url, share), shares))
    for start, answers in enumerate(found):
        assert [a.item_ids for a in answers] == [e.item_ids for e in expected[start::16]]
    # Different history lengths do meet in the batches.
    batches = {EMBEDDED: "recommend", STAGES: "ranker"}[variant]
    assert metric(triton, "exec_count", batches) < metric(triton, "count", batches)


def test_one_bad_request_is_an_error_of_its_own(triton: TritonServer, ask: Any) -> None:
    with pytest.raises(Exception, match="batch size does not match"):
        ask([["item-1"], ["item-2"]], [["item-3"]])
    assert ask([[]]) == [POPULAR]


def test_plain_json(triton: TritonServer) -> None:
    body = {
        "inputs": [{"name": "history", "shape": [1, 1], "datatype": "BYTES", "data": ["item-2"]}]
    }
    request = urllib.request.Request(
        f"http://{triton.http_url}/v2/models/recommend/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request) as response:
        outputs = {each["name"]: each for each in json.load(response)["outputs"]}
    (answer,) = triton_answers(triton.grpc_url, [{"history": ["item-2"]}])
    assert outputs["item_ids"]["data"] == answer.item_ids


def test_parity_sees_a_difference(version: Path, triton: TritonServer) -> None:
    expected = golden_answers(version, REQUESTS)
    expected[1] = expected[1].model_copy(
        update={"item_ids": ["gone", *expected[1].item_ids[1:]], "scores": [9.0] * K}
    )
    result = parity(expected, triton_answers(triton.grpc_url, REQUESTS))
    assert result["min_overlap"] == pytest.approx((K - 1) / K)
    assert result["max_abs_score_diff"] > 1


def test_only_wanted_outputs_come_back(triton: TritonServer) -> None:
    history = {"name": "history", "shape": [1, 1], "datatype": "BYTES", "data": ["item-2"]}
    body = {"inputs": [history], "outputs": [{"name": "scores"}]}
    request = urllib.request.Request(
        f"http://{triton.http_url}/v2/models/recommend/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request) as response:
        assert [each["name"] for each in json.load(response)["outputs"]] == ["scores"]


def test_nobody_loads_models(triton: TritonServer) -> None:
    url = f"http://{triton.http_url}/v2/repository/models/recommend/unload"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(url, b"{}"))
    with grpc.insecure_channel(triton.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="restricted"):
            stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="ranker"))
    assert triton.ready()


def test_a_model_that_does_not_load_is_explained(tmp_path: Path, variant: str) -> None:
    broken = write_tiny_version(tmp_path / "v", catalogue(), "0123456789ab")
    (broken / "ranker/1/model.onnx").write_bytes(b"not a model")
    with pytest.raises(TritonFailed, match=r"(?s)Triton ended while it loaded.*ranker"):
        start_triton(broken, tmp_path / "state", tmp_path / "triton.log", variant=variant)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"\x02\x00\x00\x00\xff\xfe", None),  # no UTF-8: an id that nobody knows
        (b"\x00\x00\x00\x00", None),
        (b"\x09\x00\x00\x00ab", "incomplete string data|is invalid|unexpected"),
        (b"\x01\x00", "incomplete string length|is invalid|unexpected"),
    ],
)
def test_raw_bytes(triton: TritonServer, ask: Any, raw: bytes, error: str | None) -> None:
    request = service_pb2.ModelInferRequest(model_name="recommend", raw_input_contents=[raw])
    request.inputs.add(name="history", datatype="BYTES", shape=[1, 1])
    with grpc.insecure_channel(triton.grpc_url) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        if error is None:
            assert b"item-1" in b"".join(infer(request).raw_output_contents)
        else:
            with pytest.raises(grpc.RpcError, match=error):
                infer(request)
    assert ask([[]]) == [POPULAR]
