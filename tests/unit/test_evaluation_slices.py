"""Slices, ties and what the champion is asked, each on cases that can be counted by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from recommender_data import ITEMS, TINY, random_model, vocabulary

from recommender.errors import KuberecError
from recommender.evaluation.catalogue import Catalogue, load_catalogue
from recommender.evaluation.champion import Champion
from recommender.evaluation.metrics import MISS, model_scorer
from recommender.evaluation.ranking import masked_ranks, rank_users, top_items
from recommender.evaluation.slices import make_slices, popularity_groups
from recommender.evaluation.ties import (
    ascending_runs,
    shuffle_within,
    tie_groups,
    tie_metrics,
    tied_share,
)
from recommender.model import save_model
from recommender.sequences import Split, Vocabulary
from recommender.settings import EvaluationConfig


def split_of(histories, targets, times=None) -> Split:
    own = [np.array(history, dtype=np.int64) for history in histories]
    return Split([f"u{row}" for row in range(len(own))], own, np.array(targets), times)


def test_head_and_tail_hold_their_share_of_events():
    counts = np.array([0, 1, 50, 1, 30, 18])  # from the top: 2, 4, 5, then 1 and 3
    assert popularity_groups(counts, 0.2, 0.2)[1:].tolist() == [2, 0, 2, 1, 2]
    assert popularity_groups(counts, 0.6, 0.02)[1:].tolist() == [2, 0, 2, 0, 1]


def test_every_user_is_in_the_slices_that_fit():
    counts = np.array([0, 60, 30, 9, 1])
    test = split_of([[1], [1, 2], [1, 2, 3], [1] * 7], [1, 2, 3, 4])
    catalogue = Catalogue(
        [[], ["all", "a"], ["all", "b"], ["all", "a"], ["all", "a"]], ["", "en", "en", "de", "und"]
    )
    config = EvaluationConfig(activity_bounds=[2, 4], min_slice_users=1)
    found = {
        (group.by, group.name): np.flatnonzero(group.users).tolist()
        for group in make_slices(test, counts, config, catalogue)
    }
    assert found == {
        ("activity", "new users (everyone, by the latest 3 events alone)"): [0, 1, 2, 3],
        ("activity", "fewer than 2 events"): [0],
        ("activity", "2 to 3 events"): [1, 2],
        ("activity", "4 events and more"): [3],
        ("item popularity", "head"): [0],
        ("item popularity", "mid"): [1],
        ("item popularity", "long tail"): [2, 3],
        ("cold items", "targets with fewer than 5 events in training"): [3],
        # "all" tells nobody apart; "und" is no language.
        ("category", "a"): [0, 2, 3],
        ("category", "b"): [1],
        ("language", "en"): [0, 1],
        ("language", "de"): [2],
    }
    few = make_slices(
        test, counts, EvaluationConfig(min_slice_users=2, activity_bounds=[2]), catalogue
    )
    assert [group.name for group in few if group.by == "category"] == ["a"]
    assert not [group for group in few if group.by == "language"]  # one language is no slice


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"activity_bounds": [5, 5]}, "ascend"),
        ({"activity_bounds": [0, 5]}, "ascend"),
        ({"head_share": 0.7, "tail_share": 0.4}, "more than all events"),
    ],
)
def test_settings_that_make_no_slices_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        EvaluationConfig(**settings)


def test_a_snapshot_tells_categories_and_languages(tmp_path):
    rows = {"item_id": ["b", "a"], "categories": [["x", "y"], []], "language": ["de", "en"]}
    pq.write_table(pa.table(rows), tmp_path / "items.parquet")
    known = Vocabulary(["a", "b", "c"])
    found = load_catalogue(tmp_path, known)
    assert found == Catalogue([[], [], ["x", "y"], []], ["", "en", "de", ""])
    told = load_catalogue(tmp_path, known, {"c": "fr"})
    assert told.languages == ["", "", "", "fr"]
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "items.parquet")
    with pytest.raises(KuberecError, match=r"lacks columns \['categories'\]"):
        load_catalogue(tmp_path, known)
    with pytest.raises(KuberecError, match="has no items"):
        load_catalogue(tmp_path / "nowhere", known)


def test_lists_are_ordered_and_hold_nothing_masked():
    scores = np.array([[-np.inf, 1.0, 3.0, -np.inf, 2.0]])
    assert top_items(scores, 3).tolist() == [[2, 4, 1]]
    assert top_items(scores, 6).tolist() == [[2, 4, 1, 0, 0, 0]]


def test_masked_and_unmasked_ranks_differ_by_the_history():
    scores = np.array([[9.0, 5.0, 4.0, 3.0, 2.0]])
    ranking = rank_users(lambda _: scores, split_of([[1, 2]], [4]), 4)
    assert (ranking.ranks.tolist(), ranking.unmasked.tolist()) == ([2], [4])
    assert ranking.shown[0, :3].tolist() == [3, 4, 0]
    assert ranking.confidence[0] == pytest.approx(np.e / (np.e + 1))


def test_events_at_once_are_shuffled_and_no_others():
    times = [np.array([5, 5, 5, 7, 9, 9]), np.array([0, 0])]
    groups = tie_groups(times)
    assert [own.tolist() for own in groups] == [[0, 0, 0, 1, 2, 2], [0, 1]]
    assert tied_share(groups) == pytest.approx(5 / 8)
    sequences = [np.arange(6), np.arange(2)]
    seen = set()
    for seed in range(60):
        first, second = shuffle_within(sequences, groups, np.random.default_rng(seed))
        assert sorted(first[:3]) == [0, 1, 2]
        assert first[3] == 3
        assert sorted(first[4:]) == [4, 5]
        assert second.tolist() == [0, 1]
        seen.add(tuple(first))
    assert len(seen) == 12  # 3! · 2!
    with pytest.raises(ValueError, match="give one an event"):
        shuffle_within([np.arange(2)], [np.arange(3)], np.random.default_rng(0))


def test_runs_stand_for_ties_where_there_are_no_times():
    assert ascending_runs([["B1", "B3", "B2", "B4", "B4"]])[0].tolist() == [0, 0, 1, 1, 2]


def test_a_ranker_of_the_latest_item_owes_its_figure_to_the_order_of_ties():
    """It wants the item after the latest one, which the order within a day puts at the end."""
    follows = np.eye(41, k=1) * 3 + np.linspace(0, 1, 41)

    def scorer(histories, times=None):
        return np.stack([follows[history[-1]] for history in histories])

    histories = [[first, first + 1, first + 2] for first in range(1, 29)]
    split = split_of(histories, [first + 3 for first in range(1, 29)])
    groups = [np.zeros(3, dtype=np.int64)] * len(split)
    assert masked_ranks(scorer, split, 40).tolist() == [1] * 28
    shuffled = tie_metrics(scorer, split, 40, groups, shuffles=5, seed=0)
    assert shuffled["tied_events"] == 1
    assert 0.15 < shuffled["hr@10"] < 0.75
    low, high = shuffled["range"]
    assert low < shuffled["ndcg@10"] < high


def test_a_champion_is_asked_in_its_own_words(tmp_path):
    model = random_model(TINY)
    # It knows the items in another order, three of ours under other names.
    theirs = [f"old-{item}" if place < 3 else item for place, item in enumerate(vocabulary())][::-1]
    save_model(model, theirs, tmp_path)
    champion = Champion(tmp_path, Vocabulary(vocabulary()))
    split = split_of([[1, 5, 9], [4, 6], [2]], [7, 2, 12])
    translated = champion.translated(split)
    assert [own.tolist() for own in translated.histories] == [[26, 22], [27, 25], []]
    assert translated.targets.tolist() == [24, 0, 19]

    ranks = champion.ranks(split)
    assert ranks[1] == MISS
    expected = split_of([[26, 22], []], [24, 19])
    assert ranks[[0, 2]].tolist() == masked_ranks(model_scorer(model), expected, ITEMS).tolist()


def test_a_champion_of_other_code_is_refused_with_a_way_out(tmp_path):
    save_model(random_model(TINY), vocabulary(), tmp_path)
    (tmp_path / "model.json").write_text('{"config": {"dim": 16, "wings": 2}}')
    with pytest.raises(KuberecError, match=r"evaluation\.against_champion: false"):
        Champion(tmp_path, Vocabulary(vocabulary()))
