"""The ledger: rows, intervals, slices, costs; on a small ring of items."""

import json
import math

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from exported_once import exports_once  # noqa: F401 - a fixture
from recommender_data import TINY, random_model, vocabulary, write_windows

from recommender.compression.compress import compress
from recommender.compression.latency import Loop, in_turns
from recommender.compression.ledger import measured_costs, size
from recommender.compression.memory import memory_growth
from recommender.compression.quality import list_gains, measure_gains
from recommender.compression.stages import some_requests
from recommender.errors import KuberecError
from recommender.model import save_model
from recommender.sequences import load_windows
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    EvaluationConfig,
    ExportConfig,
    QuantiseStep,
)

EXPORT = ExportConfig(k=12, max_seen=32)
EVALUATION = EvaluationConfig(bootstrap=1000, min_slice_users=5, new_user_events=2)
STEPS = [DistilStep(dim=8, layers=1, heads=1, epochs=1, batch_size=16), QuantiseStep(qat="never")]
LAX = CompressionConfig(
    steps=STEPS,
    max_quality_loss=1.0,
    max_slice_quality_loss=1.0,
    min_size_ratio=0.01,
    min_speedup=0.01,
)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Windows, model and snapshot."""
    root = tmp_path_factory.mktemp("full")
    windows = write_windows(root / "windows")
    (root / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), root / "model")
    kinds = [["even"] if place % 2 else ["odd"] for place in range(len(vocabulary()))]
    pq.write_table(pa.table({"item_id": vocabulary(), "categories": kinds}), root / "items.parquet")
    return root, windows


@pytest.fixture(scope="module")
def ledger(full, tmp_path_factory):
    root, windows = full
    out = tmp_path_factory.mktemp("out") / "compressed"
    return compress(
        root / "model", windows, LAX, EXPORT, out, evaluation=EVALUATION, items_dir=root
    )


def test_each_step_has_quality_with_intervals_beside_the_full_model_and_the_row_before(ledger):
    first, *others = ledger["rows"]
    assert first["to_full"] is None
    for before, row in zip(ledger["rows"], others, strict=False):
        for key in ("ndcg@10", "recall@10"):
            low, high = row["intervals"][key]
            assert low <= row[key] <= high
        assert row["to_full"]["difference"] == pytest.approx(row["ndcg@10"] - first["ndcg@10"])
        assert row["to_before"]["difference"] == pytest.approx(row["ndcg@10"] - before["ndcg@10"])
        low, high = row["to_full"]["interval"]
        assert low <= row["to_full"]["difference"] <= high


def test_slices_are_the_evaluations(ledger):
    named = {(each["by"], each["slice"]) for each in ledger["rows"][-1]["slices"]}
    assert {("category", "even"), ("category", "odd"), ("item popularity", "head")} <= named
    row = ledger["rows"][1]
    kinds = [each for each in row["slices"] if each["by"] == "category"]
    users = sum(each["users"] for each in kinds)
    hits = sum(each["users"] * each["ndcg@10"] for each in kinds)
    assert hits / users == pytest.approx(row["ndcg@10"])  # each user's target is even or odd
    for each in row["slices"]:
        wide, narrow = each["simultaneous_interval"], each["difference_interval"]
        if each["users"] < EVALUATION.min_slice_users:
            assert wide is None
        else:
            assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_new_users_are_asked_with_their_latest_events_alone(ledger, full):
    rows = [
        next(each for each in row["slices"] if each["slice"].startswith("new users"))
        for row in ledger["rows"]
    ]
    assert rows[0]["users"] == len(load_windows(full[1])["test"])
    assert rows[0]["ndcg@10"] != ledger["rows"][0]["ndcg@10"]


def test_costs_are_measured_on_what_would_serve(ledger):
    first, distilled, quantised = ledger["rows"]
    assert first["bytes"] > distilled["bytes"]
    assert first["parameters"] > distilled["parameters"]
    assert (first["times_smaller"], first["times_faster"]) == (1, 1)
    assert quantised["times_smaller"] == first["bytes"] / quantised["bytes"]
    for row in ledger["rows"]:
        assert row["runtime"] == "onnxruntime"
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["p50_ms_batch_32"] <= row["p99_ms_batch_32"]
        assert row["answers_per_s"] > 0
        assert row["memory_bytes"] > 0
        assert row["processor_seconds"] > 0
        assert row["times_faster"] == pytest.approx(row["full_p50_ms"] / row["p50_ms"])
    assert [row["epochs"] for row in ledger["rows"]] == [0, 1, 0]
    assert "in turns" in ledger["measured"]
    json.dumps(ledger, allow_nan=False)


def test_lists_are_judged_like_full_rankings():
    indices = np.array([[3, 1, *range(10, 18)], [1, 2, *range(10, 18)]])
    assert list_gains(indices, np.array([1, 5])).tolist() == [pytest.approx(1 / math.log2(3)), 0]
    with pytest.raises(ValueError, match="cannot be judged at 10"):
        list_gains(indices[:, :5], np.array([1, 5]))


def test_rankers_are_asked_the_same_requests_in_turns():
    asked = []

    def ranker(name):
        return lambda rows: asked.append((name, rows.tolist()))

    requests = [np.arange(7)]
    found = in_turns([ranker("a"), ranker("b")], [requests, requests], 3, Loop(calls=20, least=20))
    assert [len(each.seconds) for each in found] == [20, 20]
    names = [name for name, _ in asked[20:]]  # behind the warm-up
    assert names == ["a"] * 10 + ["b"] * 10 + ["a"] * 10 + ["b"] * 10
    own = {name: [rows for each, rows in asked if each == name] for name in "ab"}
    assert own["a"] == own["b"]
    assert own["a"][:3] == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]


def identity(path, megabytes: int):
    """A graph that adds to its input the sum of a constant so large."""
    weights = np.zeros(megabytes * 250_000, np.float32)
    nodes = [
        onnx.helper.make_node("ReduceSum", ["weights"], ["sum"], keepdims=0),
        onnx.helper.make_node("Cast", ["sum"], ["whole"], to=onnx.TensorProto.INT64),
        onnx.helper.make_node("Add", ["history_ids", "whole"], ["item_indices"]),
        onnx.helper.make_node("Identity", ["seen_ids"], ["scores"]),
    ]
    ends = [
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, ["b", None]) for n in names]
        for names in (("history_ids", "seen_ids"), ("item_indices", "scores"))
    ]
    constants = [onnx.numpy_helper.from_array(weights, "weights")]
    graph = onnx.helper.make_graph(nodes, "ranker", *ends, constants)
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    """A graph of 40 MB takes at least that, whatever this process holds; a small one does not."""
    inputs = (np.ones((5, 4), np.int64), np.ones((5, 4), np.int64))
    small = memory_growth(identity(tmp_path / "small.onnx", 1), inputs, 10)
    large = memory_growth(identity(tmp_path / "large.onnx", 41), inputs, 10)
    assert large - small > 0.9 * 40e6
    with pytest.raises(KuberecError, match=r"could not be measured[^$]*nothing.onnx"):
        memory_growth(tmp_path / "nothing.onnx", inputs, 10)
    found = size(tmp_path / "large.onnx")
    assert found == {"bytes": (tmp_path / "large.onnx").stat().st_size, "parameters": 41 * 250_000}


def test_what_onnx_has_no_graph_for_is_measured_in_torch(full, ledger, tmp_path):
    """The same model: the same quality to rounding, and the bytes of the saved weights."""
    root, windows = full
    test = load_windows(windows)["test"]
    gains = measure_gains(root / "model", test, TINY, EXPORT.k, EXPORT.max_seen, 2)
    assert gains.whole.mean() == pytest.approx(ledger["rows"][0]["ndcg@10"], abs=0.02)
    requests = some_requests(test, TINY, EXPORT.max_seen)
    row = measured_costs(root / "model", root / "model", requests, requests, EXPORT.k)
    assert row["runtime"] == "torch"
    assert row["bytes"] == (root / "model" / "model.safetensors").stat().st_size
    assert row["parameters"] >= sum(each.numel() for each in random_model(TINY).parameters())
    assert row["memory_bytes"] > 0
    assert row["times_faster"] == 1
