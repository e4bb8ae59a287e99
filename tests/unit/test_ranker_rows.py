"""Rows appended to an exported ranker: known items as before, new ones as torch would have them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model

from recommender.compression.half import half_ranker
from recommender.compression.product_quantiser import fit_codebooks
from recommender.compression.quantize import quantize_ranker
from recommender.export import Ranker, export_ranker, rank
from recommender.item_codes import ItemCodes
from recommender.item_graphs import pack_items
from recommender.model import SequentialRecommender
from recommender.onnx_session import open_session
from recommender.ranker_graph import RankerGraph
from recommender.ranker_rows import NewRows, append_rows, least_popular, table_size
from recommender.row_codes import nearest_centroids
from recommender.settings import QuantiseStep

K, MAX_SEEN, NEW = 12, 20, 4
PACKED = ("rows", "codes", "codes_rows")
RNG = np.random.default_rng(1)
ROWS = (RNG.normal(size=(NEW, TINY.dim)) * 0.4).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> SequentialRecommender:
    return random_model()


@pytest.fixture(scope="module")
def rankers(model: SequentialRecommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32.onnx, half.onnx in float16, int8.onnx, and int8_tensor.onnx with one scale for all.

    And those that keep the table once: rows.onnx as bytes, codes.onnx as codes that lose nothing,
    codes_rows.onnx as bytes made of codes.
    """
    folder = tmp_path_factory.mktemp("rankers")
    export_ranker(model, folder / "fp32.onnx", K, MAX_SEEN)
    half_ranker(folder / "fp32.onnx", folder / "half.onnx")
    for name, per_channel in (("int8", True), ("int8_tensor", False)):
        config = QuantiseStep(per_channel=per_channel)
        quantize_ranker(folder / "fp32.onnx", folder / f"{name}.onnx", config, *requests())
    table_ND = model.item_table().detach().numpy()
    books = fit_codebooks(table_ND, 4, ITEMS + 1, seed=0)
    codes = ItemCodes(torch.from_numpy(nearest_centroids(table_ND, books)), torch.from_numpy(books))
    for name, arguments in (
        ("rows", (None, True)),
        ("codes", (codes,)),
        ("codes_rows", (codes, True)),
    ):
        shutil.copyfile(folder / "fp32.onnx", folder / f"{name}.onnx")
        pack_items(folder / f"{name}.onnx", *arguments)
    return folder


def requests(items: int = ITEMS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    history_ids = rng.integers(1, items + 1, (64, TINY.max_length))
    history_ids[0] = 0
    seen_ids = np.zeros((64, MAX_SEEN), np.int64)
    seen_ids[:, -TINY.max_length :] = history_ids
    return history_ids, seen_ids


def grown(folder: Path, name: str, boost: float = 0.0, times: int = 1) -> Path:
    path = folder / f"{name}.onnx"
    for time in range(times):
        target = folder / f"{name}-{boost}-{time}.onnx"
        popularity = np.full(NEW, least_popular(path), np.float32)
        append_rows(path, target, NewRows(ROWS, popularity, boost))
        path = target
    return path


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["fp32", "half", "int8", "int8_tensor", *PACKED])
def test_known_items_keep_their_scores_to_the_bit(rankers: Path, name: str, times: int) -> None:
    path = grown(rankers, name, times=times)
    assert table_size(path) == (ITEMS + times * NEW, TINY.dim)
    inputs = requests()
    before = rank(open_session(rankers / f"{name}.onnx"), *inputs)
    after = rank(open_session(path), *inputs)
    new = 0
    for row in range(len(inputs[0])):
        was = dict(zip(before[0][row].tolist(), before[1][row].tolist(), strict=True))
        now = dict(zip(after[0][row].tolist(), after[1][row].tolist(), strict=True))
        known = [item for item in now if item <= ITEMS]
        assert all(was[item] == now[item] for item in known)
        # In the order in which they were.
        assert known == [item for item in was if item in now]
        new += len(now) - len(known)
    assert new > 0


@pytest.mark.parametrize("name", ["fp32", "half", "int8", *PACKED])
def test_a_boost_changes_new_items_alone(rankers: Path, name: str) -> None:
    inputs = requests()
    plain = rank(open_session(grown(rankers, name)), *inputs)
    boosted = rank(open_session(grown(rankers, name, 0.5)), *inputs)
    compared = 0
    for row in range(1, len(inputs[0])):
        was = dict(zip(plain[0][row].tolist(), plain[1][row].tolist(), strict=True))
        for item, score in zip(boosted[0][row].tolist(), boosted[1][row].tolist(), strict=True):
            if item in was:
                added = 0.5 if item > ITEMS else 0.0
                assert score == pytest.approx(was[item] + added, abs=1e-5)
                compared += item > ITEMS
    assert compared > 0
    again = rank(open_session(grown(rankers, name, 0.5, times=2)), *inputs)
    assert (again[0] > ITEMS).sum() > (boosted[0] > ITEMS).sum()


def test_histories_with_new_items_are_read_as_torch_reads_them(
    model: SequentialRecommender, rankers: Path
) -> None:
    text = torch.cat([model.text_vectors, torch.zeros(NEW, model.text_vectors.shape[1])])
    popularity = torch.full((NEW,), float(model.log_popularity[1:].min()))
    larger = SequentialRecommender(TINY, text, torch.cat([model.log_popularity, popularity]))
    weights = model.state_dict() | larger.state_dict()
    weights |= {
        name: value
        for name, value in model.state_dict().items()
        if value.shape == weights[name].shape
    }
    ids = torch.cat([model.id_embedding.weight.detach(), torch.from_numpy(ROWS)])
    weights["id_embedding.weight"] = ids
    larger.load_state_dict(weights)
    inputs = requests(ITEMS + NEW)
    found = rank(open_session(grown(rankers, "fp32")), *inputs)
    with torch.inference_mode():
        indices, scores = Ranker(larger.eval(), K)(*map(torch.from_numpy, inputs))
    np.testing.assert_allclose(found[1], scores.numpy(), rtol=1e-4, atol=1e-4)
    assert (found[0] == indices.numpy()).mean() > 0.99


def test_new_items_become_bytes_or_the_nearest_codes(rankers: Path) -> None:
    inputs = requests()
    expected = new_scores(grown(rankers, "fp32", 9.0), inputs)
    as_bytes = new_scores(grown(rankers, "rows", 9.0), inputs)
    assert 0 < np.abs(as_bytes - expected).max() < 0.1
    # Each piece is that of some known item: of the one that is nearest.
    known = graph_table(rankers / "fp32.onnx").reshape(-1, 4, TINY.dim // 4)
    pieces = ROWS.reshape(NEW, 1, 4, TINY.dim // 4)
    nearest = np.square(known - pieces).sum(axis=-1).argmin(axis=1)
    near = known[nearest, np.arange(4)].reshape(NEW, TINY.dim)
    target = rankers / "near.onnx"
    popularity = np.full(NEW, least_popular(rankers / "fp32.onnx"), np.float32)
    append_rows(rankers / "fp32.onnx", target, NewRows(near, popularity, 9.0))
    as_codes = new_scores(grown(rankers, "codes", 9.0), inputs)
    np.testing.assert_allclose(as_codes, new_scores(target, inputs), rtol=1e-4, atol=1e-4)


def graph_table(path: Path) -> np.ndarray:
    import onnx

    graph = RankerGraph(onnx.load(str(path)).graph)
    return graph.array(graph.reader().input[0])


def new_scores(path: Path, inputs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """[users, NEW] of those that have a history; the boost has brought them into every list."""
    indices, scores = rank(open_session(path), *inputs)
    found = []
    for row in range(1, len(indices)):
        of = dict(zip(indices[row].tolist(), scores[row].tolist(), strict=True))
        found.append([of[item] for item in range(ITEMS + 1, ITEMS + NEW + 1)])
    return np.array(found)


def test_without_a_history_new_items_come_last(rankers: Path) -> None:
    nobody = np.zeros((1, TINY.max_length), np.int64), np.zeros((1, MAX_SEEN), np.int64)
    before = rank(open_session(rankers / "int8.onnx"), *nobody)
    after = rank(open_session(grown(rankers, "int8", 5.0)), *nobody)
    assert before[0].tolist() == after[0].tolist()


def test_another_graph_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])],
        "other",
        [value("a", TensorProto.FLOAT, [1])],
        [value("b", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="no item table"):
        append_rows(tmp_path / "other.onnx", tmp_path / "out.onnx", NewRows(ROWS, ROWS[:, 0]))
    assert not (tmp_path / "out.onnx").exists()
