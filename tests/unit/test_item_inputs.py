"""Texts, images or nothing besides ids: in training, on disk, in a student and in the export."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recommender_data import ITEMS, TINY, vocabulary, write_vectors, write_windows

from recommender.compression.distill import make_student
from recommender.export import export_ranker, torch_onnx_parity
from recommender.item_inputs import load_item_vectors
from recommender.model import SequentialRecommender, load_model, save_model
from recommender.sequences import Vocabulary
from recommender.settings import DistilStep, TrainingConfig

HISTORY = torch.tensor([[0, 0, 3, 4, 5], [1, 2, 3, 4, 6]])
RANDOM = torch.Generator().manual_seed(0)
TEXT = torch.randn(ITEMS + 1, 8, generator=RANDOM)
POPULARITY = torch.randn(ITEMS + 1, generator=RANDOM)


def images(missing: tuple[int, ...] = (0, 7, 8)) -> torch.Tensor:
    vectors = torch.nn.functional.normalize(torch.randn(ITEMS + 1, 5, generator=RANDOM), dim=1)
    vectors[list(missing)] = 0
    return vectors


def model(text=TEXT, image=None, seed: int = 0) -> SequentialRecommender:
    torch.manual_seed(seed)
    return SequentialRecommender(TINY, text, POPULARITY, image).eval()


def shaken(model: SequentialRecommender) -> SequentialRecommender:
    """Every weight far from its initial zero."""
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


INPUTS = {
    "text": (TEXT, None),
    "text and image": (TEXT, images()),
    "image": (TEXT[:, :0], images()),
    "none": (TEXT[:, :0], None),
}


def test_a_model_without_images_is_what_it_was():
    plain, both = model(), model(image=images())
    kept = plain.state_dict()
    added = {name: value for name, value in both.state_dict().items() if name not in kept}
    assert set(added) == {"image.vectors", "image.projection.weight", "image.default"}
    for name, value in kept.items():
        torch.testing.assert_close(both.state_dict()[name], value, rtol=0, atol=0)


def test_without_text_and_images_an_item_is_its_id():
    alone = model(TEXT[:, :0])
    torch.testing.assert_close(alone.item_table(), alone.id_embedding.weight)


def test_an_image_speaks_for_its_item_and_its_absence_for_itself():
    both = shaken(model(image=images()))
    before = both.item_table()
    assert both.image is not None
    both.image.vectors[5] += 1.0
    moved = (both.item_table() - before).abs().amax(dim=1)
    assert moved[5] > 1e-3
    assert moved[torch.arange(ITEMS + 1) != 5].max() == 0
    before = both.item_table()
    with torch.no_grad():
        both.image.default += 1.0
    moved = (both.item_table() - before).abs().amax(dim=1)
    assert torch.nonzero(moved > 1e-3).flatten().tolist() == [0, 7, 8]


@pytest.mark.parametrize("name", INPUTS)
def test_disk_student_and_export_read_the_same_item_table(name, tmp_path):
    teacher = shaken(model(*INPUTS[name]))
    save_model(teacher, vocabulary(), tmp_path)
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded.item_table(), teacher.item_table(), rtol=0, atol=0)

    same = make_student(teacher, DistilStep(layers=TINY.layers)).eval()
    torch.testing.assert_close(same(HISTORY), teacher(HISTORY))
    wider = make_student(teacher, DistilStep(dim=20))
    ours, theirs = wider.item_table(), teacher.item_table()
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, rtol=0.01, atol=0.02)

    export_ranker(loaded, tmp_path / "ranker.onnx", 10, 20)
    history = np.random.default_rng(0).integers(0, ITEMS + 1, (4, TINY.max_length))
    parity = torch_onnx_parity(
        teacher, tmp_path / "ranker.onnx", history, np.zeros((4, 20), np.int64)
    )
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4


def test_vectors_come_in_the_vocabularys_order_and_null_is_zero(tmp_path):
    write_vectors(tmp_path)
    table = pq.read_table(tmp_path / "vectors.parquet")
    rows = [None, *([float(row), 1.0] for row in range(1, ITEMS))]
    image = pa.array(rows, pa.large_list(pa.float32()))
    pq.write_table(table.append_column("image", image), tmp_path / "vectors.parquet")
    chosen = Vocabulary(["i03", "i00", "i29"])
    made = load_item_vectors(tmp_path, chosen)
    given = np.stack(table["vector"].to_numpy())
    assert not made.text[0].any()
    np.testing.assert_allclose(made.text[1:], given[[3, 0, 29]], rtol=1e-6)
    assert made.image is not None
    assert made.image.tolist() == [[0, 0], [3, 1], [0, 0], [29, 1]]


@pytest.mark.parametrize("name", ["text and image", "none"])
def test_training_learns_from_what_there_is(name, tmp_path):
    from recommender.training.fit import fit

    write_windows(tmp_path / "windows")
    vectors = tmp_path / "vectors"
    vectors.mkdir()
    columns = {"item_id": vocabulary()}
    if name == "none":
        columns["vector"] = pa.array([[]] * ITEMS, pa.list_(pa.float32()))
    else:
        write_vectors(vectors)
        columns["vector"] = pq.read_table(vectors / "vectors.parquet")["vector"]
        columns["image"] = pa.array([None, *images()[2:].tolist()], pa.large_list(pa.float32()))
    pq.write_table(pa.table(columns), vectors / "vectors.parquet")
    config = TrainingConfig(epochs=2, batch_size=16, threads=1)
    record = fit(tmp_path / "windows", vectors, TINY, config, tmp_path / "model")
    assert record["curves"][1]["train_loss"] < record["curves"][0]["train_loss"]
    learnt = load_model(tmp_path / "model")
    if learnt.image is not None:
        assert learnt.image.default.abs().min() > 0  # of the item without an image
