"""Metrics against a brute-force reading of their definitions; baselines; the gate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender_data import ITEMS, TINY, random_model, vocabulary, write_windows

from recommender.evaluation.baselines import popularity
from recommender.evaluation.evaluate import BASELINES, evaluate, gate
from recommender.evaluation.metrics import (
    evaluate_scorer,
    mask_history,
    model_scorer,
    target_ranks,
)
from recommender.evaluation.ranking import masked_ranks
from recommender.model import save_model
from recommender.sequences import Split
from recommender.settings import EvaluationConfig

N = 6


@st.composite
def cases(draw):
    """Scores with many ties, a history and a target that may be in it."""
    row = st.lists(st.integers(0, 3), min_size=N + 1, max_size=N + 1)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    histories = [draw(st.lists(st.integers(1, N), max_size=4)) for _ in rows]
    targets = [draw(st.integers(1, N)) for _ in rows]
    return np.array(rows, float), [np.array(h, dtype=np.int64) for h in histories], targets


@settings(max_examples=60, deadline=None)
@given(cases())
def test_metrics_equal_their_definitions(case):
    scores, histories, targets = case
    split = Split([str(row) for row in range(len(targets))], histories, np.array(targets))
    start = iter([scores])
    metrics = evaluate_scorer(lambda _: next(start), split, N)

    ranks = []
    for row, target in enumerate(targets):
        candidates = [item for item in range(1, N + 1) if item not in histories[row]]
        better = [i for i in candidates if i != target and scores[row, i] >= scores[row, target]]
        ranks.append(1 + len(better))
    for cutoff in (5, 10, 20):
        hits = [rank <= cutoff for rank in ranks]
        gains = [hit / math.log2(rank + 1) for hit, rank in zip(hits, ranks, strict=True)]
        assert metrics[f"hr@{cutoff}"] == pytest.approx(np.mean(hits))
        assert metrics[f"ndcg@{cutoff}"] == pytest.approx(np.mean(gains))
    assert metrics["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert masked_ranks(lambda _: scores, split, N).tolist() == ranks


def test_equal_scores_rank_the_target_last():
    masked = mask_history(np.zeros((1, N + 1)), [np.array([1, 2])], np.array([4]))
    assert target_ranks(masked, np.array([4])).tolist() == [N - 2]


def test_scores_that_are_not_numbers_are_an_error():
    with pytest.raises(ValueError, match="diverged"):
        target_ranks(np.full((1, 3), np.nan), np.array([1]))


def test_coverage_counts_items_shown_to_anyone():
    scores = np.zeros((2, 31))
    scores[0, 1:11] = scores[1, 6:16] = 1.0
    split = Split(["a", "b"], [np.array([], dtype=np.int64)] * 2, np.array([1, 1]))
    assert evaluate_scorer(lambda _: scores, split, 30)["coverage@10"] == pytest.approx(15 / 30)


def test_popularity_is_the_same_for_everyone():
    scores = popularity(np.array([0, 3, 1]))([np.array([1]), np.array([], dtype=np.int64)])
    assert scores.tolist() == [[0, 3, 1], [0, 3, 1]]


@pytest.mark.parametrize("time", ["none", "gaps"])
def test_histories_read_together_are_scored_as_each_by_itself(time):
    model = random_model(TINY.model_copy(update={"time": time}))
    rng = np.random.default_rng(0)
    # More than are read together; with one that is empty, and some longer than the model reads.
    histories = [rng.integers(1, ITEMS + 1, size=n % 14) for n in range(50)]
    times = [1_700_000_000 + np.cumsum(rng.integers(1, 10**6, size=len(h))) for h in histories]
    scorer = model_scorer(model)
    for row, scores in enumerate(scorer(histories, times)):
        alone = scorer([histories[row]], [times[row]])[0]
        np.testing.assert_allclose(scores, alone, rtol=1e-4, atol=1e-5)


def test_users_without_known_items_are_judged_by_popularity():
    model = random_model()
    scores = model_scorer(model)([np.array([], dtype=np.int64), np.array([3, 4])])
    np.testing.assert_array_equal(scores[0], model.log_popularity.numpy())
    assert not np.array_equal(scores[1], model.log_popularity.numpy())


def test_evaluate_compares_the_model_with_every_baseline(tmp_path):
    windows = write_windows(tmp_path / "windows")
    (tmp_path / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), tmp_path / "model")
    result = evaluate(tmp_path / "model", windows, EvaluationConfig())
    assert set(result["test"]) == set(result["valid"]) == {"model", *BASELINES}
    assert result["users"] == 48
    assert result["items"] == ITEMS
    # The ring is easy for whoever looks at recent items, and an untrained model does not.
    assert result["test"]["recent item-knn"]["ndcg@10"] > 0.4
    assert [check["passed"] for check in result["gate"]][:3] == [False, True, True]


@pytest.mark.parametrize(
    ("ndcg", "hr", "passed"),
    [(0.115, 0.2, [True, True, True]), (0.109, 0.19, [False, True, False])],
)
def test_the_gate_asks_for_a_margin_over_the_best_baseline(ndcg, hr, passed):
    metrics = {name: {"ndcg@10": 0.05} for name in BASELINES}
    metrics["item-knn"] = {"ndcg@10": 0.10}
    result = {"test": {**metrics, "model": {"ndcg@10": ndcg, "hr@10": hr}}}
    checks = gate(result, EvaluationConfig(min_ndcg_margin=0.1, min_ndcg=0.105, min_hr=0.2))
    assert [check.passed for check in checks] == passed
    fewer = EvaluationConfig(baselines=["popularity"], min_ndcg_margin=1.2)
    assert gate(result, fewer)[0].limit == ">= 0.1100"
    assert "item-knn" in checks[0].name
