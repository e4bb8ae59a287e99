"""A trained model reads what it should: order, texts, clicks; and the gate sees one that does not.

The world: users walk around a ring from a start that is mostly among its first items, so that some
items are popular, a few items a day; items ten places apart have nearly the same text.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recommender_data import ITEMS, TEXT_DIM, TINY, vocabulary

from recommender.evaluation.baselines import popularity
from recommender.evaluation.behaviour import behaviour, overlap, popularity_ratio, text_agreement
from recommender.evaluation.evaluate import evaluate
from recommender.evaluation.gate import gate
from recommender.evaluation.item_knn import ItemKnn, KnnSettings, cosine_similarities
from recommender.evaluation.metrics import model_scorer
from recommender.evaluation.ranking import rank_users
from recommender.files import write_json
from recommender.model import load_model, save_model
from recommender.sequences import Vocabulary, item_counts, load_windows
from recommender.settings import BehaviourConfig, EvaluationConfig, TrainingConfig

USERS = 150
TRAINING = TrainingConfig(
    epochs=8, batch_size=16, learning_rate=0.02, warmup_epochs=0.5, patience=8, seed=7, threads=1
)


def write_world(root):
    rng = np.random.default_rng(0)
    items, rows = vocabulary(), []
    for user in range(USERS):
        steps = rng.choice([1, 1, 1, 2], size=rng.integers(5, 12))
        start = int(rng.exponential(5))
        walk = [items[place % ITEMS] for place in start + np.cumsum(steps)]
        days = [day * 86_400_000_000 for day in np.sort(rng.integers(1, 5, len(walk)))]
        for split, end in (("train", -2), ("valid", -2), ("test", -1)):
            target = None if split == "train" else walk[end]
            rows.append((f"u{user:03d}", split, walk[:end], target, days[:end]))
    names = ("user_id", "split", "history", "target", "history_times")
    columns = zip(names, zip(*rows, strict=True), strict=True)
    table = pa.table({name: pa.array(column) for name, column in columns})
    pq.write_table(table, root / "windows.parquet")
    write_json(root / "vocabulary.json", items)
    texts = rng.normal(size=(10, TEXT_DIM))[np.arange(ITEMS) % 10]
    texts += 0.05 * rng.normal(size=texts.shape)
    vectors = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    table = pa.table({"item_id": items, "vector": list(vectors.astype(np.float32))})
    pq.write_table(table, root / "vectors.parquet")
    halves = [["first half"] if place < ITEMS // 2 else ["second half"] for place in range(ITEMS)]
    pq.write_table(pa.table({"item_id": items, "categories": halves}), root / "items.parquet")
    return root


class World:
    """The trained model, what it was trained on, and what it shows."""

    def __init__(self, root):
        self.root = root
        self.splits = load_windows(root, Vocabulary(vocabulary()))
        self.counts = item_counts(self.splits["train"].histories, ITEMS)
        self.model = load_model(root / "model")
        self.scorer = model_scorer(self.model)

    def of(self, scorer, model=None):
        shown = rank_users(scorer, self.splits["test"], ITEMS).shown
        config = BehaviourConfig(users=100)
        test = self.splits["test"]
        return behaviour(model or self.model, scorer, test, shown, self.counts, config, seed=0)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    from recommender.training.fit import fit

    root = write_world(tmp_path_factory.mktemp("world"))
    fit(root, root, TINY, TRAINING, root / "model")
    return World(root)


def failed(measured) -> list[str]:
    """Names of the failed checks of behaviour, at the limits that a run has by default."""
    metrics = {"ndcg@10": 1.0, "hr@10": 1.0}
    result = {"test": {"model": metrics, "popularity": {"ndcg@10": 0.0}}, "behaviour": measured}
    checks = gate(result, EvaluationConfig(baselines=["popularity"]))
    return [check.name for check in checks if not check.passed]


def test_a_trained_model_behaves(world):
    measured = world.of(world.scorer)
    assert measured["users"] == 100
    assert measured["reversed_overlap"] < 0.8
    assert measured["repeat_overlap"] > 0.6
    assert measured["text_agreement"] > 0.6
    assert measured["popularity_ratio"] < 1.3
    assert failed(measured) == []


def test_reversing_a_history_changes_the_list(world):
    forwards, backwards = np.array([3, 4, 5, 6, 7]), np.array([7, 6, 5, 4, 3])
    one, other = world.scorer([forwards, backwards])
    assert {8, 9} & set(np.argsort(-one)[:3])  # it walks on
    assert list(np.argsort(-one)[:5]) != list(np.argsort(-other)[:5])
    # A ranker for which a history is a set is found out.
    similarity = cosine_similarities(world.splits["train"].histories, ITEMS)[0.0]
    knn = ItemKnn(similarity, KnnSettings(30, np.inf, 0.0))
    assert world.of(knn)["reversed_overlap"] == 1.0
    assert any("order matters" in name for name in failed(world.of(knn)))


def test_a_ranker_that_a_repeated_click_confuses_is_found_out(world):
    def flips(histories, times=None):
        scores = world.scorer(histories)
        even = np.array([len(history) % 2 == 0 for history in histories])
        scores[even] *= -1
        return scores

    measured = world.of(flips)
    assert measured["repeat_overlap"] < 0.5
    assert any("repeated click" in name for name in failed(measured))


def test_texts_that_nobody_reads_are_found_out(world):
    deaf = load_model(world.root / "model")
    torch.nn.init.zeros_(deaf.text_projection.weight)
    rng = np.random.default_rng(0)
    heard = text_agreement(world.model, 30, np.random.default_rng(0))
    assert heard > text_agreement(deaf, 30, rng) + 0.1
    deaf.text_vectors.zero_()
    assert text_agreement(deaf, 30, rng) is None


def test_a_ranker_of_the_popular_is_further_from_what_users_choose(world):
    shown = rank_users(popularity(world.counts), world.splits["test"], ITEMS).shown
    targets = world.splits["test"].targets
    ours = rank_users(world.scorer, world.splits["test"], ITEMS).shown
    assert popularity_ratio(shown, targets, world.counts) > 1.15
    assert popularity_ratio(ours, targets, world.counts) < popularity_ratio(
        shown, targets, world.counts
    )
    assert any("popularity" in name for name in failed({"popularity_ratio": 2.5}))


def test_overlap_is_of_sets_and_ignores_empty_places():
    assert overlap(np.array([[1, 2, 0]]), np.array([[2, 3, 0]])) == 0.5
    assert overlap(np.array([[1, 2, 3]]), np.array([[3, 2, 1]])) == 1.0


CONFIG = EvaluationConfig(
    min_ndcg_margin=-1, min_slice_users=20, max_champion_loss=1.0, bootstrap=2000
)


def evaluated(world, model_dir, config=CONFIG):
    champion, items = world.root / "model", world.root
    return evaluate(model_dir, world.root, config, champion, items, champion_version="7")


def test_a_model_is_as_good_as_itself(world):
    result = evaluated(world, world.root / "model")
    assert result["champion"]["difference_interval"] == [0.0, 0.0]
    assert result["champion"]["ndcg@10"] == pytest.approx(result["test"]["model"]["ndcg@10"])
    assert all(check["passed"] for check in result["gate"])
    low, high = result["intervals"]["ndcg@10"]
    assert low < result["test"]["model"]["ndcg@10"] < high
    assert result["unmasked"]["ndcg@10"] <= result["test"]["model"]["ndcg@10"]
    # Several events a day, whose order this model reads.
    ties = result["ties"]
    assert ties["tied_events"] > 0.5
    assert ties["ndcg@10"] < result["test"]["model"]["ndcg@10"]
    rows = {(row["by"], row["slice"]): row for row in result["slices"]}
    halves = [rows["category", half] for half in ("first half", "second half")]
    assert sum(row["users"] for row in halves) == USERS
    assert halves[0]["champion_ndcg@10"] == pytest.approx(halves[0]["ndcg@10"])
    alone = evaluate(world.root / "model", world.root, CONFIG)
    assert alone["champion"] is None
    assert {row["by"] for row in alone["slices"]} >= {"activity", "item popularity"}
    assert all(row["champion_ndcg@10"] is None for row in alone["slices"])


def test_the_gate_names_the_slice_that_got_worse(world, tmp_path):
    worse = load_model(world.root / "model")
    with torch.no_grad():  # it has forgotten the items of the second half
        worse.id_embedding.weight[ITEMS // 2 + 1 :] = 0
    save_model(worse, vocabulary(), tmp_path)
    result = evaluated(world, tmp_path)
    broken = [check for check in result["gate"] if not check["passed"]]
    rows = {row["slice"]: row for row in result["slices"]}
    row = rows["second half"]
    (named,) = [check for check in broken if "'second half'" in check["name"]]
    assert named["name"] == (
        f"test NDCG@10 of category 'second half' ({row['users']} users) against champion 7"
    )
    assert named["value"] == row["ndcg@10"] < row["champion_ndcg@10"]
    assert f"the champion's {row['champion_ndcg@10']:.4f}" in named["limit"]
    assert not [check for check in broken if "'first half'" in check["name"]]
    ignored = evaluated(world, tmp_path, CONFIG.model_copy(update={"against_champion": False}))
    assert ignored["champion"] is None


def test_the_overall_loss_counts_only_beyond_chance():
    def check(ndcg, low, high, config):
        champion = {"version": "3", "ndcg@10": 0.2, "difference_interval": [low, high]}
        test = {"model": {"ndcg@10": ndcg, "hr@10": 1.0}, "popularity": {"ndcg@10": 0.0}}
        result = {"test": test, "champion": champion, "slices": []}
        return gate(result, config)[3]

    config = EvaluationConfig(baselines=["popularity"], max_champion_loss=0.05)
    assert check(0.18, -0.03, 0.001, config).passed  # may be chance
    assert check(0.195, -0.009, -0.001, config).passed  # is sure, and allowed
    lost = check(0.18, -0.03, -0.01, config)
    assert not lost.passed
    assert lost.name == "test NDCG@10 against champion 3"
    assert ">= 0.1900" in lost.limit
