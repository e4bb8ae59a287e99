"""The step `quantise`: its grids, training with the rounding in it, 16 bits, calibration checks."""

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pydantic import ValidationError
from recommender_data import ITEMS, TINY, random_model, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression import quantise_step
from recommender.compression.calibration import (
    calibration_histories,
    clipped_shares,
    distance,
    require_alike,
    require_covered,
)
from recommender.compression.candidate import Candidate, Form, Work
from recommender.compression.fake_quantise import fake_asymmetric, fake_quantised, fake_symmetric
from recommender.compression.graphs import write_graphs
from recommender.compression.half import half_ranker
from recommender.compression.learning import learn
from recommender.compression.quantise_step import quantise
from recommender.compression.quantize import quantize_ranker
from recommender.errors import KuberecError
from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.export import export_ranker, rank
from recommender.onnx_session import open_session
from recommender.ranker_inputs import ranker_inputs, request_inputs
from recommender.sequences import load_windows
from recommender.settings import ExportConfig, LearningConfig, QuantiseStep, RecoveryConfig

torch.set_num_threads(1)
EXPORT = ExportConfig(k=12, max_seen=32)
RECOVERY = RecoveryConfig(epochs=6, batch_size=4, learning_rate=0.01, precision="float32")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows")))


def work_of(teacher, splits, folder, told=None):
    def tell(*words):
        if told is not None:
            told.append(words[-1])

    return Work(teacher, splits, EXPORT, folder, tell)


@pytest.fixture(scope="module")
def trained(splits):
    """A model that knows the ring."""
    model = random_model(TINY)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
    config = LearningConfig(
        epochs=6, batch_size=8, learning_rate=0.02, soft_share=0, precision="float32"
    )
    learn(model, random_model(TINY, seed=5), splits, config)
    return model


def outlier(model):
    """The same with a large row of padding: no score changes, but the items' one range does."""
    other = random_model(TINY)
    other.load_state_dict(model.state_dict())
    other.id_embedding.weight.data[0] = 300 * model.item_table().std()
    return other.eval()


def test_grids_are_onnx_runtimes(trained, exported, tmp_path, splits):
    """Items as the quantiser stores them, read back, are items as training rounds them."""
    int8 = tmp_path / "int8.onnx"
    quantize_ranker(exported, int8, QuantiseStep(), *calibration_inputs(splits))
    graph = onnx.load(str(int8)).graph
    held = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    table = outlier(trained).item_table().detach()
    (name,) = [name for name, values in held.items() if values.shape == (ITEMS + 1, 16)]
    parts = [name.replace("quantized", part) for part in ("quantized", "scale", "zero_point")]
    codes, scale, zero = (held[part] for part in parts)
    read = (codes.astype(np.float32) - zero) * scale
    np.testing.assert_allclose(
        fake_asymmetric(table, *table.aminmax(), 127).numpy(), read, atol=1e-5 * float(scale)
    )
    (scored,) = [name for name, values in held.items() if values.shape == (16, ITEMS + 1)]
    scales = held[scored.replace("_quantized", "_scale")]
    ours = fake_symmetric(table, per_channel=True, reduce_range=True).numpy()
    np.testing.assert_allclose(ours.T, held[scored] * scales, atol=1e-6)


def test_gradients_pass_the_rounding_but_not_the_ends():
    x = torch.tensor([-2.0, -0.3, 0.4, 3.0], requires_grad=True)
    rounded = fake_asymmetric(x, torch.tensor(-1.0), torch.tensor(1.0))
    rounded.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    assert (rounded.detach()[1:3] - x.detach()[1:3]).abs().max() <= 1 / 255


def test_the_model_is_as_it_was_after_the_training_with_rounding(splits):
    model = random_model(TINY)
    history = torch.tensor([[0, 3, 4, 5]])
    before, names = model(history), list(model.state_dict())
    with fake_quantised(model, QuantiseStep()):
        assert list(model.state_dict()) == names
        model.train()
        rough = model(history)
        assert not torch.equal(rough, before)
    model.eval()
    assert torch.equal(model(history), before)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The graph of the model with outliers; exporting takes seconds."""
    path = tmp_path_factory.mktemp("exported") / "fp32.onnx"
    export_ranker(outlier(trained), path, EXPORT.k, EXPORT.max_seen)
    return path


def calibration_inputs(splits):
    return ranker_inputs(calibration_histories(splits["train"].histories, 128, 0)[0], 10, 32)


def top_10(path, splits):
    """Of all items, also of those seen: of this few little else would be left."""
    history_ids, seen_ids = ranker_inputs(splits["test"].histories, 10, 32)
    return rank(open_session(path), history_ids, np.zeros_like(seen_ids))[0][:, :10]


def test_training_with_the_rounding_wins_back_what_an_outlier_costs(
    trained, exported, splits, tmp_path
):
    static = QuantiseStep(qat="never", max_clipped=1.0)
    quantize_ranker(exported, tmp_path / "int8.onnx", static, *calibration_inputs(splits))
    exact = top_10(exported, splits)
    lossy = top_k_overlap(top_10(tmp_path / "int8.onnx", splits), exact)
    aware = static.model_copy(update={"qat": "always", "recovery": RECOVERY})
    work = work_of(trained, splits, tmp_path)
    tuned = quantise(Candidate(outlier(trained)), aware, work)
    won = top_k_overlap(top_10(write_graphs(tuned, work, tmp_path).served, splits), exact)
    print(f"top-10 overlap with float32: {lossy:.3f} static, {won:.3f} trained")
    assert lossy < 0.9
    assert won > lossy + 0.04
    assert len(tuned.curve) == RECOVERY.epochs
    assert tuned.form.quantised == aware
    assert list(tuned.model.state_dict()) == list(trained.state_dict())


@pytest.mark.parametrize(
    ("figures", "trains", "taken"),
    [
        ([(0.5, 0.495)], False, False),
        ([(0.5, 0.4), (0.5, 0.45)], True, True),
        ([(0.5, 0.4), (0.5, 0.39)], True, False),
    ],
)
def test_auto_trains_only_where_int8_loses_and_keeps_only_what_helps(
    trained, splits, tmp_path, monkeypatch, figures, trains, taken
):
    told = []
    measured = iter(figures)
    monkeypatch.setattr(quantise_step, "validation_ndcg", lambda *_: next(measured))
    step = QuantiseStep(qat_above=0.05, recovery=RECOVERY.model_copy(update={"epochs": 1}))
    work = work_of(trained, splits, tmp_path, told)
    chosen = quantise(Candidate(trained), step, work)
    assert any(words.startswith("qat: loss") for words in told) == trains
    assert (chosen.model is not trained) == taken
    assert chosen.form.quantised == step


def test_what_another_form_of_the_items_costs_is_not_int8s(trained, splits, tmp_path, monkeypatch):
    """Bytes a row lose by themselves: what INT8 adds is measured between both graphs that serve."""
    asked = []

    def measured(candidate, _):
        asked.append(candidate.form)
        return 0.5, 0.4

    monkeypatch.setattr(quantise_step, "validation_ndcg", measured)
    step = QuantiseStep(qat_above=0.05)
    candidate = Candidate(trained, Form(int8_items=True))
    chosen = quantise(candidate, step, work_of(trained, splits, tmp_path))
    assert chosen.model is trained
    assert asked == [Form(quantised=step, int8_items=True), Form(int8_items=True)]


def test_items_in_another_form_are_not_rounded_in_training():
    model = random_model(TINY)
    exact = model.item_table()
    with fake_quantised(model, QuantiseStep(), items=False):
        assert torch.equal(model.item_table(), exact)
        assert type(model.backbone.blocks[0].out) is not torch.nn.Linear
    assert type(model.backbone.blocks[0].out) is torch.nn.Linear


def test_validation_is_judged_as_in_training(trained, splits, tmp_path):
    exact, served = quantise_step.validation_ndcg(
        Candidate(trained), work_of(trained, splits, tmp_path)
    )
    expected = evaluate_scorer(model_scorer(trained), splits["valid"], ITEMS)["ndcg@10"]
    assert expected > 0
    assert exact == pytest.approx(expected, abs=1e-6)
    assert served == pytest.approx(expected, abs=1e-6)


def test_sixteen_bits_are_half_the_bytes_and_rank_alike(exported, splits, tmp_path):
    half_path = tmp_path / "half.onnx"
    half_ranker(exported, half_path)
    inputs = ranker_inputs(splits["test"].histories, 10, 32)
    exact, _ = rank(open_session(exported), *inputs)
    half, scores = rank(open_session(half_path), *inputs)
    assert top_k_overlap(half, exact) > 0.97
    assert scores.dtype == np.float32
    sizes = []
    for path in (exported, half_path):
        tensors = onnx.load(str(path)).graph.initializer
        sizes.append(sum(len(each.raw_data) for each in tensors if math.prod(each.dims) > 64))
    assert sizes[1] == sizes[0] // 2


def test_bfloat16_is_refused_with_the_runtimes_reason(trained, splits, tmp_path):
    step = QuantiseStep(precision="bfloat16")
    with pytest.raises(KuberecError, match=r"bfloat16.*NOT_IMPLEMENTED.*float16"):
        quantise(Candidate(trained), step, work_of(trained, splits, tmp_path))


def test_too_few_calibration_requests_are_refused():
    with pytest.raises(ValidationError, match=r"calibration_requests\n.*greater than or equal"):
        QuantiseStep(calibration_requests=63)
    with pytest.raises(KuberecError, match="640 asked for, but the histories have 3 beginnings"):
        calibration_histories([np.array([1, 2, 3]), np.array([], np.int64)], 640, 0)


def test_calibration_histories_of_another_kind_are_refused():
    popularity = np.log(np.arange(1, ITEMS + 2) / 500).astype(np.float32)
    rng = np.random.default_rng(0)
    usual = [rng.integers(1, ITEMS + 1, rng.integers(2, 9)) for _ in range(100)]
    require_alike(usual[:64], usual[36:], popularity, 10)
    short = [history[:1] for history in usual]
    with pytest.raises(KuberecError, match=r"histories' lengths are 1\.00 away"):
        require_alike(short, [h for h in usual if len(h) > 1], popularity, 10)
    rare = [np.minimum(history, 4) for history in usual]
    with pytest.raises(KuberecError, match="items' popularity are"):
        require_alike(rare, usual, popularity, 10)
    assert distance(np.array([1, 2]), np.array([3])) == 1
    assert distance(np.array([1, 2, 3]), np.array([3, 1, 2])) == 0


def test_values_beyond_the_calibrated_range_are_counted_and_named(exported, splits, tmp_path):
    exact, int8 = exported, tmp_path / "int8.onnx"
    inputs = calibration_inputs(splits)
    quantize_ranker(exact, int8, QuantiseStep(), *inputs)
    assert max(clipped_shares(exact, int8, request_inputs(*inputs)).values()) == 0
    one = np.full_like(inputs[0][:1], 0), inputs[1][:1]
    one[0][0, -1] = inputs[0][0, -1]
    quantize_ranker(exact, int8, QuantiseStep(), *one)
    shares = clipped_shares(exact, int8, request_inputs(*inputs))
    with pytest.raises(KuberecError, match=r"% of the values of '.*' on validation histories lie"):
        require_covered(shares, QuantiseStep(max_clipped=0.001))


def test_the_item_table_is_found_under_any_name(exported, splits, tmp_path):
    target = tmp_path / "int8.onnx"
    model = onnx.load(str(exported))
    reader = next(n for n in model.graph.node if n.op_type == "Gather" and "history_ids" in n.input)
    table = reader.input[0]
    for each in model.graph.initializer:
        each.name = "items" if each.name == table else each.name
    for node in model.graph.node:
        node.input[:] = ["items" if name == table else name for name in node.input]
    renamed = tmp_path / "renamed.onnx"
    onnx.save(model, str(renamed))
    inputs = calibration_inputs(splits)
    answers = []
    for path in (exported, renamed):
        quantize_ranker(path, target, QuantiseStep(), *inputs)
        held = {each.data_type for each in onnx.load(str(target)).graph.initializer
                if math.prod(each.dims) >= 16 * (ITEMS + 1)}  # fmt: skip
        assert held <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
        answers.append(rank(open_session(Path(target)), *inputs)[0])
    assert (answers[0] == answers[1]).all()
