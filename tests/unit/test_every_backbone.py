"""Whatever a model is made of, it can be distilled, exported, quantised and given new items."""

import shutil

import numpy as np
import pytest
import torch
from decoder_folders import decoder_config, decoder_folder
from recommender_data import ITEMS, TEXT_DIM, TINY, random_model, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression.distill import distil, make_student
from recommender.compression.quantize import quantize_ranker
from recommender.errors import KuberecError
from recommender.export import export_ranker, rank, torch_onnx_parity
from recommender.graph_trim import trim_file
from recommender.model import SequentialRecommender
from recommender.new_items import fit_item_map
from recommender.onnx_session import open_session
from recommender.ranker_rows import NewRows, append_rows
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import DistilStep, ModelConfig, QuantiseStep

SHAPES = {
    "rotary": {"position": "rotary"},
    "gate and cosine": {"fusion": "gate", "similarity": "cosine"},
    "hstu, gate and cosine": {"backbone": "hstu", "fusion": "gate", "similarity": "cosine"},
}
K, SEEN = 8, 12


def requests(rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    history = np.zeros((rows, TINY.max_length), np.int64)
    for row in range(1, rows):  # the first has no known item
        length = rng.integers(1, TINY.max_length + 1)
        history[row, -length:] = rng.permutation(ITEMS)[:length] + 1
    return history, np.pad(history, ((0, 0), (0, SEEN - TINY.max_length)))


def decoder_model(folder, kind: str = "llama", module: str = "q_proj") -> SequentialRecommender:
    torch.manual_seed(0)
    config = decoder_config(decoder_folder(folder, kind), lora_modules=[module])
    model = SequentialRecommender(config, torch.randn(ITEMS + 1, TEXT_DIM), torch.randn(ITEMS + 1))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def assert_trimmed_alike(model: SequentialRecommender, path) -> None:
    """A graph that cuts padding off, whatever the longest history of the batch is."""
    trimmed = path.with_name("trimmed.onnx")
    shutil.copyfile(path, trimmed)
    trim_file(trimmed)
    history, seen = requests()
    for longest in (0, 1, 4, TINY.max_length):
        rows = (history > 0).sum(axis=1) <= longest
        parity = torch_onnx_parity(model, trimmed, history[rows], seen[rows])
        assert parity["top_k_overlap"] == 1.0
        assert parity["max_abs_score_diff"] < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_exported_quantised_and_grown(shape, tmp_path) -> None:
    model = random_model(ModelConfig.model_validate(TINY.model_dump() | SHAPES[shape]))
    inputs = requests()
    export_ranker(model, tmp_path / "fp32.onnx", K, SEEN)
    parity = torch_onnx_parity(model, tmp_path / "fp32.onnx", *inputs)
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4
    assert_trimmed_alike(model, tmp_path / "fp32.onnx")
    quantize_ranker(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", QuantiseStep(), *inputs)
    known, _ = rank(open_session(tmp_path / "fp32.onnx"), *inputs)
    small, _ = rank(open_session(tmp_path / "int8.onnx"), *inputs)
    assert top_k_overlap(known, small) > 0.9
    item_map = fit_item_map(model)
    assert item_map is not None
    rows = item_map.rows(model.text_vectors[1:4].numpy())
    new = NewRows(rows, np.full(3, -9.0, np.float32), boost=1000.0)
    for name in ("fp32", "int8"):
        append_rows(tmp_path / f"{name}.onnx", tmp_path / "grown.onnx", new)
        found, _ = rank(open_session(tmp_path / "grown.onnx"), *inputs)
        firsts = np.sort(found[1:, :3], axis=1)
        np.testing.assert_array_equal(firsts, np.tile(ITEMS + 1 + np.arange(3), (len(firsts), 1)))


@pytest.mark.parametrize(("kind", "module"), [("llama", "q_proj"), ("gpt2", "c_attn")])
def test_a_decoder_is_exported(kind, module, tmp_path) -> None:
    model = decoder_model(tmp_path / "decoder", kind, module)
    export_ranker(model, tmp_path / "ranker.onnx", K, SEEN)
    parity = torch_onnx_parity(model, tmp_path / "ranker.onnx", *requests())
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4
    assert_trimmed_alike(model, tmp_path / "ranker.onnx")


def test_a_decoder_that_onnx_cannot_express_says_what_to_do(tmp_path) -> None:
    class Airy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.airy_ai(x)

    model = decoder_model(tmp_path / "decoder")
    model.backbone.project_out = torch.nn.Sequential(model.backbone.project_out, Airy())
    with pytest.raises(KuberecError, match=r"cannot be exported to ONNX: distil it .*airy"):
        export_ranker(model, tmp_path / "ranker.onnx", K, SEEN)
    assert not (tmp_path / "ranker.onnx").exists()


def test_a_decoders_student_is_a_transformer_that_learns_from_it(tmp_path) -> None:
    windows = write_windows(tmp_path / "windows", users=16)
    splits = load_windows(windows, Vocabulary.load(windows / "vocabulary.json"))
    teacher = decoder_model(tmp_path / "decoder")
    config = DistilStep(layers=1, epochs=3, batch_size=8, learning_rate=0.02)
    student, curve = distil(teacher, splits, config)
    assert student.config.backbone == "transformer"
    assert student.config.hf is None
    assert not [name for name in student.state_dict() if "decoder" in name]
    assert curve[-1]["train_loss"] < 0.9 * curve[0]["train_loss"]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_student_of_the_same_shape_starts_as_its_teacher(shape) -> None:
    config = ModelConfig.model_validate(TINY.model_dump() | SHAPES[shape])
    teacher = random_model(config)
    student = make_student(teacher, DistilStep(layers=config.layers)).eval()
    history = torch.from_numpy(requests(4)[0])
    torch.testing.assert_close(student(history), teacher(history))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_wider_student_of_a_gated_teacher_starts_with_its_items(similarity) -> None:
    changes = {"fusion": "gate", "similarity": similarity}
    teacher = random_model(TINY.model_copy(update=changes))
    student = make_student(teacher, DistilStep(layers=1, dim=20, heads=2))
    ours, theirs = student.item_table()[1:], teacher.item_table()[1:]
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, atol=0.03, rtol=0.03)
