"""The ONNX ranker: equal to torch, masks what was seen, and answers everyone."""

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model

from recommender.agreement import top_k_overlap
from recommender.errors import KuberecError
from recommender.export import (
    export_ranker,
    open_session,
    rank,
    torch_onnx_parity,
)
from recommender.schema import MASKED_SCORE

K, MAX_SEEN = 12, 20


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def ranker(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "ranker.onnx"
    export_ranker(model, path, K, MAX_SEEN)
    return path


def requests(rows: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Histories of every length from full to empty, each item of them seen."""
    history_ids = np.random.default_rng(3).integers(1, ITEMS + 1, (rows, TINY.max_length))
    for row in range(rows):
        history_ids[row, : row * TINY.max_length // (rows - 1)] = 0
    seen_ids = np.zeros((rows, MAX_SEEN), dtype=np.int64)
    seen_ids[:, -TINY.max_length :] = history_ids
    return history_ids, seen_ids


def test_onnx_and_torch_agree(model, ranker):
    parity = torch_onnx_parity(model, ranker, *requests())
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4
    assert parity["requests"] == 6


def test_scores_are_the_models_own_best_first(model, ranker):
    history_ids, _ = requests()
    indices, scores = rank(open_session(ranker), history_ids[:1], np.zeros((1, MAX_SEEN), np.int64))
    expected = model(torch.from_numpy(history_ids[:1]))[0].detach().numpy()
    expected[0] = -np.inf
    assert indices[0].tolist() == np.argsort(-expected)[:K].tolist()
    np.testing.assert_allclose(scores[0], np.sort(expected)[::-1][:K], rtol=1e-4, atol=1e-5)


def test_seen_items_and_padding_are_not_recommended(ranker):
    history_ids, seen_ids = requests()
    indices, scores = rank(open_session(ranker), history_ids, seen_ids)
    for answer, seen in zip(indices, seen_ids, strict=True):
        assert not set(answer) & (set(seen) | {0})
    assert (scores > MASKED_SCORE).all()


def test_who_has_seen_nearly_everything_gets_what_is_left_and_padding(ranker):
    history_ids, _ = requests(rows=2)
    seen_ids = np.arange(1, MAX_SEEN + 1)[None]
    indices, scores = rank(open_session(ranker), history_ids[:1], seen_ids)
    left = ITEMS - MAX_SEEN
    assert sorted(indices[0, :left]) == list(range(MAX_SEEN + 1, ITEMS + 1))
    assert indices[0, left:].tolist() == [0] * (K - left)
    assert (scores[0, left:] == MASKED_SCORE).all()


def test_an_empty_history_gets_popular_items(model, ranker):
    history_ids = np.zeros((1, TINY.max_length), np.int64)
    seen_ids = np.zeros((1, MAX_SEEN), np.int64)
    popular = torch.argsort(-model.log_popularity[1:])[: K + 1].numpy() + 1
    indices, _ = rank(open_session(ranker), history_ids, seen_ids)
    assert indices[0].tolist() == popular[:K].tolist()
    seen_ids[0, -1] = popular[0]
    indices, _ = rank(open_session(ranker), history_ids, seen_ids)
    assert indices[0].tolist() == popular[1:].tolist()


def test_a_batch_answers_as_its_requests_alone_do(ranker):
    session = open_session(ranker)
    history_ids, seen_ids = requests()
    together, scores = rank(session, history_ids, seen_ids)
    for row in range(len(history_ids)):
        alone, score = rank(session, history_ids[row : row + 1], seen_ids[row : row + 1])
        assert alone[0].tolist() == together[row].tolist()
        np.testing.assert_allclose(score[0], scores[row], rtol=1e-4, atol=1e-5)


def test_more_answers_than_items_are_refused(model, tmp_path):
    with pytest.raises(KuberecError, match=r"export.k = 31 is more than the 30 items"):
        export_ranker(model, tmp_path / "ranker.onnx", 31, MAX_SEEN)
    assert not list(tmp_path.iterdir())


def test_overlap_ignores_the_order():
    assert top_k_overlap(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 5]])) == 0.75
