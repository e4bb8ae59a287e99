"""Distillation, INT8, the ledger and its budgets, on a small ring of items."""

import json
import math

import numpy as np
import onnx
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model, vocabulary, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression.compress import compress
from recommender.compression.distill import distil, make_student
from recommender.compression.losses import distillation_loss
from recommender.errors import GateFailed
from recommender.export import rank
from recommender.model import load_model, save_model
from recommender.onnx_session import open_session
from recommender.sequences import load_windows, pad
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    ExportConfig,
    ModelConfig,
    QuantiseStep,
)

TEACHER = ModelConfig(dim=64, layers=2, heads=2, feedforward=4, max_length=10, dropout=0.1)
STUDENT = DistilStep(
    dim=32,
    layers=1,
    heads=1,
    feedforward=1,
    epochs=6,
    batch_size=8,
    learning_rate=0.02,
    soft_share=1,
)
STEPS = [STUDENT, QuantiseStep()]
EXPORT = ExportConfig(k=12, max_seen=32)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    return write_windows(tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("teacher")
    save_model(random_model(TEACHER), vocabulary(), directory)
    return directory


def test_the_loss_is_hintons():
    config = DistilStep(temperature=2.0, soft_share=0.7)
    student, teacher, target = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, 4, 2])
    p, q = (torch.softmax(logits / 2, -1) for logits in (teacher, student))
    soft = (p * (p / q).log()).sum(-1).mean()
    hard = -torch.log_softmax(student, -1)[torch.arange(3), target].mean()
    expected = 0.7 * 4 * soft + 0.3 * hard
    torch.testing.assert_close(distillation_loss(student, teacher, target, config), expected)
    only_soft = DistilStep(soft_share=1.0)
    assert float(distillation_loss(teacher, teacher, target, only_soft)) == pytest.approx(
        0, abs=1e-6
    )


def test_a_student_of_the_teachers_shape_starts_as_the_teacher():
    teacher = random_model(TINY)
    student = make_student(teacher, DistilStep(layers=TINY.layers)).eval()
    histories = torch.tensor([[0, 0, 3, 4, 5]])
    torch.testing.assert_close(student(histories), teacher(histories))


def test_a_wider_student_starts_with_the_geometry_of_the_teachers_items():
    teacher = random_model(TINY)
    student = make_student(teacher, DistilStep(dim=20))
    ours, theirs = student.item_table(), teacher.item_table()
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, rtol=0.01, atol=0.02)


def test_a_student_learns_its_teacher(windows, teacher_dir):
    teacher = load_model(teacher_dir)
    splits = load_windows(windows)
    histories = torch.from_numpy(pad(splits["test"].histories, 10))

    def agreement(model) -> float:
        """Top-10 overlap with the teacher on histories that were not trained on."""
        with torch.inference_mode():
            ours, theirs = (m(histories)[:, 1:].topk(10).indices for m in (model, teacher))
        return top_k_overlap(ours.numpy(), theirs.numpy())

    student, curve = distil(teacher, splits, STUDENT)
    assert curve[-1]["train_loss"] < 0.7 * curve[0]["train_loss"]
    assert agreement(student) > agreement(make_student(teacher, STUDENT).eval()) + 0.1


@pytest.fixture(scope="module")
def compressed(windows, teacher_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("compressed") / "compressed"
    budgets = CompressionConfig(
        steps=STEPS, max_quality_loss=1.0, min_size_ratio=1.5, min_speedup=0.01
    )
    return out, compress(teacher_dir, windows, budgets, EXPORT, out)


def test_the_artifact_and_its_ledger(compressed):
    out, ledger = compressed
    assert {path.name for path in out.iterdir()} == {
        "student",
        "ranker.onnx",
        "ranker_fp32.onnx",
        "ledger.json",
    }
    assert json.loads((out / "ledger.json").read_text()) == ledger
    rows = ledger["rows"]
    assert [row["step"] for row in rows] == ["full", "distil", "quantise"]
    assert rows[0]["bytes"] > rows[1]["bytes"] > rows[2]["bytes"]
    assert rows[0]["parameters"] > rows[1]["parameters"]
    assert rows[2]["bytes"] == (out / "ranker.onnx").stat().st_size
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows)


def test_the_quantised_graph_holds_its_tables_in_int8(compressed):
    graph = onnx.load(str(compressed[0] / "ranker.onnx")).graph
    large = [tensor for tensor in graph.initializer if math.prod(tensor.dims) >= 8 * ITEMS]
    assert large
    assert {tensor.data_type for tensor in large} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_an_answer_does_not_depend_on_the_requests_of_its_batch(compressed, windows):
    split = load_windows(windows)["test"]
    inputs = pad(split.histories, 10), pad(split.histories, EXPORT.max_seen)
    session = open_session(compressed[0] / "ranker.onnx")
    together = rank(session, *inputs)
    for row in range(len(split)):
        alone = rank(session, *(each[row : row + 1] for each in inputs))
        assert (alone[0][0] == together[0][row]).all()
        assert (alone[1][0] == together[1][row]).all()


def test_the_quantised_ranker_ranks_like_the_student(compressed, windows):
    out, _ = compressed
    split = load_windows(windows)["test"]
    inputs = pad(split.histories, 10), pad(split.histories, EXPORT.max_seen)
    exact, _ = rank(open_session(out / "ranker_fp32.onnx"), *inputs)
    int8, scores = rank(open_session(out / "ranker.onnx"), *inputs)
    assert top_k_overlap(int8, exact) > 0.9
    for answer, seen in zip(int8, inputs[1], strict=True):
        assert not set(answer) & set(seen) - {0}
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_blown_budget_names_the_step_and_leaves_the_ledger(windows, teacher_dir, tmp_path):
    budgets = CompressionConfig(
        steps=[STUDENT.model_copy(update={"epochs": 1}), QuantiseStep()],
        max_bytes=100,
        min_size_ratio=1.5,
    )
    with pytest.raises(GateFailed, match=r"FAIL quantise: bytes .*<= 100"):
        compress(teacher_dir, windows, budgets, EXPORT, tmp_path / "out")
    assert (tmp_path / "out" / "ledger.json").is_file()
