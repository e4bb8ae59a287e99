"""Item-kNN against its dense definition; the search's judge against a full ranking."""

import math
from itertools import pairwise

import numpy as np
import pytest

from recommender.evaluation import item_knn, knn_search
from recommender.evaluation.item_knn import ItemKnn, KnnSettings, cosine_similarities, latest_ages
from recommender.evaluation.knn_search import KnnJudge, best_item_knn
from recommender.evaluation.metrics import rank_metrics
from recommender.evaluation.ranking import masked_ranks
from recommender.sequences import Split, item_counts


def test_cosine_similarity_equals_its_definition():
    histories = [np.array([1, 2]), np.array([1, 2, 3]), np.array([3])]
    similarity = cosine_similarities(histories, 3)[0.0]
    assert similarity[1, 2] == pytest.approx(1.0)
    assert similarity[1, 3] == pytest.approx(1 / 2)
    assert not similarity.diagonal().any()
    assert not similarity[0].toarray().any()


def random_histories(rng, users: int, items: int, longest: int = 12) -> list[np.ndarray]:
    """Of which some items are much more popular than others."""
    place = rng.beta(1, 3, size=(users, longest)) * items
    return [own[: rng.integers(1, longest)] for own in 1 + place.astype(np.int64)]


@pytest.mark.parametrize("dense_items", [0, 10_000])
def test_similarity_in_blocks_and_sparse_scores_equal_the_dense_definition(
    monkeypatch, dense_items
):
    rng = np.random.default_rng(0)
    items = 40
    histories = random_histories(rng, 60, items)
    seen = np.zeros((len(histories), items + 1))
    for row, history in enumerate(histories):
        seen[row, history] = 1
    norm = np.sqrt(seen.sum(axis=0))
    weights = np.zeros_like(seen)
    for row, history in enumerate(histories):
        weights[row, history] = 0.5 ** (np.arange(len(history))[::-1] / 2.0)

    monkeypatch.setattr(item_knn, "CELLS", 100)  # a few rows a block
    monkeypatch.setattr(item_knn, "DENSE_ITEMS", dense_items)
    similarities = cosine_similarities(histories, items, (0.0, 3.0))
    for shrinkage, similarity in similarities.items():
        dense = seen.T @ seen / np.maximum(np.outer(norm, norm) + shrinkage, 1e-9)
        np.fill_diagonal(dense, 0)
        dense = dense.astype(np.float32)
        np.testing.assert_allclose(similarity.toarray(), dense, rtol=1e-6)
        for row in range(items + 1):
            stored = similarity.data[similarity.indptr[row] : similarity.indptr[row + 1]]
            assert (np.diff(stored) <= 0).all()
        # All that are as near as the fourth.
        kept = np.where(dense >= np.sort(dense, axis=1)[:, -4, None], dense, 0)
        knn = ItemKnn(similarity, KnnSettings(4, 2.0, shrinkage))
        assert isinstance(knn.kept, np.ndarray) == bool(dense_items)
        np.testing.assert_allclose(knn(histories), weights @ kept, rtol=1e-5)


def test_rows_keep_their_nearest_and_those_as_near(monkeypatch):
    rng = np.random.default_rng(1)
    histories = random_histories(rng, 200, 30)
    whole = cosine_similarities(histories, 30)[0.0].toarray()
    cut = cosine_similarities(histories, 30, most=5)[0.0].toarray()
    kept = np.where(whole >= np.sort(whole, axis=1)[:, -5, None], whole, 0)
    np.testing.assert_array_equal(cut, kept)


def test_ages_are_of_an_items_latest_event():
    ages = latest_ages([np.array([3, 1, 3, 2]), np.array([], dtype=np.int64), np.array([1])], 3)
    assert [ages.indices[a:b].tolist() for a, b in pairwise(ages.indptr)] == [
        [1, 2, 3],
        [],
        [1],
    ]
    assert ages.data.tolist() == [2, 0, 1, 0]
    assert latest_ages([np.array([], dtype=np.int64)], 3).shape == (1, 4)


def test_knn_prefers_neighbours_of_recent_items():
    similarity = cosine_similarities([np.array([1, 2]), np.array([3, 4])] * 3, 4)[0.0]
    recent = ItemKnn(similarity, KnnSettings(10, 1.0, 0.0))([np.array([1, 3])])[0]
    assert recent[4] > recent[2] > 0
    forgetting_nothing = ItemKnn(similarity, KnnSettings(10, math.inf, 0.0))([np.array([1, 3])])[0]
    assert forgetting_nothing[4] == forgetting_nothing[2]


@pytest.mark.parametrize("dense_items", [0, 10_000])
@pytest.mark.parametrize("stages", [(), (3, 11), (1000,)])
def test_the_judges_figure_is_that_of_a_full_ranking(monkeypatch, dense_items, stages):
    """To the last bit, ties and targets that are in the history among them."""
    monkeypatch.setattr(item_knn, "DENSE_ITEMS", dense_items)
    monkeypatch.setattr(knn_search, "STAGES", stages)
    monkeypatch.setattr("recommender.evaluation.metrics.CELLS", 41 * 7)  # 7 users at a time
    rng = np.random.default_rng(2)
    items = 40
    histories = random_histories(rng, 90, items)
    histories[5] = np.array([], dtype=np.int64)
    targets = np.array(
        [
            own[-1] if own.size and n % 2 else 1 + n % items
            for n, own in enumerate(random_histories(rng, 90, items))
        ]
    )
    split = Split([str(n) for n in range(90)], histories, targets)
    judge = KnnJudge(split, item_counts(histories, items))
    assert any(target in own for target, own in zip(targets, histories, strict=True))
    similarity = cosine_similarities(histories, items)[0.0]
    for neighbours, half_life in ((2, 1.0), (8, 4.0), (40, math.inf)):
        knn = ItemKnn(similarity, KnnSettings(neighbours, half_life, 0.0))
        ranks = masked_ranks(knn, split, items)
        found = judge.ranks(knn)
        within = np.sort(ranks[ranks <= 10])
        assert 10 < len(within) < 90
        np.testing.assert_array_equal(np.sort(found[found <= 10]), within)
        assert judge(knn) == pytest.approx(rank_metrics(ranks)["ndcg@10"], rel=1e-12)


def test_knn_tuning_keeps_what_the_judge_likes_best():
    grid = [KnnSettings(n, half_life, 0.0) for n in (1, 3) for half_life in (1.0, math.inf)]
    values = iter([0.1, 0.2, 0.4, 0.3])
    similarities = cosine_similarities([np.array([1, 2, 3])], 3)
    _, chosen = best_item_knn(similarities, grid, lambda _: next(values))
    assert chosen == {"neighbours": 3, "half_life": 1.0, "shrinkage": 0.0}
