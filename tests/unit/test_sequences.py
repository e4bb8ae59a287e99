"""Vocabulary, windows and batches."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recommender_data import write_windows

from recommender.errors import KuberecError
from recommender.sequences import (
    Vocabulary,
    epoch_batches,
    epoch_windows,
    item_counts,
    load_windows,
    log_popularity,
    pad,
)
from recommender.settings import ModelConfig


def test_vocabulary_skips_unknown_items_and_survives_a_file(tmp_path):
    Vocabulary(["b", "a"]).save(tmp_path / "vocabulary.json")
    vocabulary = Vocabulary.load(tmp_path / "vocabulary.json")
    assert vocabulary.encode(["a", "?", "b", "", "a"]).tolist() == [2, 1, 2]
    assert vocabulary.index("?") == vocabulary.index(None) == 0
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"])


def test_pad_keeps_the_latest_on_the_right():
    padded = pad([np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4])], 2)
    assert padded.tolist() == [[2, 3], [0, 0], [0, 4]]


def test_each_batch_row_predicts_the_next_item():
    histories = [np.arange(1, n + 1) for n in (1, 2, 5, 40)]
    rows = 0
    for inputs, targets, times in epoch_batches(histories, 10, 4, seed=0, epoch=0):
        assert times is None
        assert inputs.shape == targets.shape
        assert inputs.shape[1] <= 10
        learnt = targets > 0
        # In these histories item n is followed by n + 1.
        assert (targets[learnt] == inputs[learnt] + 1).all()
        assert (targets[inputs == 0] == 0).all()
        rows += len(inputs)
    assert rows == 1 + 1 + 4  # a history of one item has nothing to predict; 40 items: 4 windows


def test_reversed_windows_predict_the_item_before():
    histories = [np.arange(1, 9)] * 20
    batches = epoch_batches(histories, 10, 4, seed=0, epoch=0, reversed_share=1.0)
    for inputs, targets, _ in batches:
        assert (targets == inputs - 1).all()


def test_batches_depend_on_seed_and_epoch_alone():
    histories = [np.arange(1, n) for n in range(3, 60)]

    def run(seed: int, epoch: int) -> list[list[list[int]]]:
        batches = epoch_batches(histories, 10, 8, seed, epoch, reversed_share=0.5)
        return [inputs.tolist() for inputs, *_ in batches]

    assert run(1, 2) == run(1, 2)
    assert run(1, 2) != run(1, 3)
    assert run(1, 2) != run(2, 2)


def test_long_histories_are_read_everywhere_over_the_epochs():
    rng = np.random.default_rng(0)
    history = np.arange(1, 101)
    windows = [[history[part] for _, part in epoch_windows([history], 9, rng)] for _ in range(30)]
    assert all(len(window) == 10 for epoch in windows for window in epoch)
    assert {len(epoch) for epoch in windows} == {10}
    assert set(np.concatenate([np.concatenate(epoch) for epoch in windows])) == set(range(1, 101))


def test_popularity_counts_and_their_logarithm():
    counts = item_counts([np.array([1, 2]), np.array([2])], 3)
    assert counts.tolist() == [0, 1, 2, 0]
    popularity = log_popularity(counts)
    assert popularity.dtype == np.float32
    np.testing.assert_allclose(np.exp(popularity[1:]), np.array([2, 3, 1]) / 6, rtol=1e-6)


def test_windows_come_by_split_with_unknown_items_skipped(tmp_path):
    write_windows(tmp_path, users=5)
    splits = load_windows(tmp_path)
    assert [len(splits[name]) for name in ("train", "valid", "test")] == [5, 5, 5]
    assert (splits["train"].targets == 0).all()
    for train, valid, target, test in zip(
        splits["train"].histories,
        splits["valid"].histories,
        splits["valid"].targets,
        splits["test"].histories,
        strict=True,
    ):
        assert train.tolist() == valid.tolist()
        assert test.tolist() == [*valid.tolist(), target]


def test_a_users_training_windows_are_one_history_with_each_event_once(tmp_path):
    rows = [
        ("b", "train", ["i1"], None, 0),
        ("a", "train", ["i0", "i1", "i2"], None, 0),
        ("a", "train", ["i2", "gone", "i0"], None, 1),
        ("a", "train", ["gone", "i0", "i1"], None, 2),
    ]
    for user in "ab":
        rows += [(user, "valid", ["i1"], "i2", 0), (user, "test", ["i1", "i2"], "i0", 0)]
    names = ("user_id", "split", "history", "target", "overlap")
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names)
    pq.write_table(table, tmp_path / "windows.parquet")
    splits = load_windows(tmp_path, Vocabulary(["i0", "i1", "i2"]))
    assert [splits[name].users for name in splits] == [["a", "b"]] * 3
    histories = [history.tolist() for history in splits["train"].histories]
    assert histories == [[1, 2, 3, 1, 2], [2]]  # i0 i1 i2 (gone) i0 i1
    assert item_counts(splits["train"].histories, 3).tolist() == [0, 2, 3, 1]
    assert splits["test"].histories[0].tolist() == [2, 3]


def test_a_lacking_column_or_split_is_named(tmp_path):
    table = pq.read_table(write_windows(tmp_path) / "windows.parquet")
    pq.write_table(table.drop_columns(["target"]), tmp_path / "windows.parquet")
    with pytest.raises(KuberecError, match=r"lacks columns \['target'\]"):
        load_windows(tmp_path)
    pq.write_table(
        table.filter([s == "train" for s in table["split"].to_pylist()]),
        tmp_path / "windows.parquet",
    )
    with pytest.raises(KuberecError, match="no rows of split 'valid'"):
        load_windows(tmp_path)


def test_a_target_outside_the_vocabulary_is_named(tmp_path):
    write_windows(tmp_path)
    with pytest.raises(KuberecError, match=r"the target 'i.*' of split 'valid' is not in the voc"):
        load_windows(tmp_path, Vocabulary(["i00"]))


def _timed_windows(directory, rows):
    names = ("user_id", "split", "history", "target", "overlap", "history_times")
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], names)
    pq.write_table(table, directory / "windows.parquet")
    return directory


def _timed_rows():
    second = 1_000_000
    rows = [
        ("a", "train", ["i0", "gone", "i2"], None, 0, [5 * second, 6 * second, 7 * second + 999]),
        ("a", "train", ["i2", "i1"], None, 1, [7 * second + 999, 9 * second]),
    ]
    rows += [("a", "valid", ["gone", "i1"], "i2", 0, [6 * second, 9 * second])]
    return [*rows, ("a", "test", ["i1", "i2"], "i0", 0, [9 * second, 11 * second])]


def test_times_of_unknown_items_and_of_overlaps_are_left_out_with_them(tmp_path):
    splits = load_windows(_timed_windows(tmp_path, _timed_rows()), Vocabulary(["i0", "i1", "i2"]))
    assert [history.tolist() for history in splits["train"].histories] == [[1, 3, 2]]
    gaps = ModelConfig(time="gaps")
    assert [times.tolist() for times in splits["train"].times_for(gaps)] == [[5, 7, 9]]
    assert [times.tolist() for times in splits["valid"].times_for(gaps)] == [[9]]
    assert [times.tolist() for times in splits["test"].times_for(gaps)] == [[9, 11]]
    assert splits["test"].times_for(ModelConfig()) is None


def test_a_model_of_gaps_needs_windows_with_times(tmp_path):
    splits = load_windows(write_windows(tmp_path))
    assert splits["train"].times_for(ModelConfig()) is None
    with pytest.raises(KuberecError, match=r"model.time is gaps.*no column 'history_times'"):
        splits["train"].times_for(ModelConfig(time="gaps"))


def test_a_history_with_too_few_times_is_named(tmp_path):
    rows = _timed_rows()
    rows[2] = (*rows[2][:-1], [6])
    with pytest.raises(KuberecError, match="user 'a', split 'valid': 2 events, but 1 times"):
        load_windows(_timed_windows(tmp_path, rows), Vocabulary(["i0", "i1", "i2"]))


def test_times_stay_beside_their_items_in_every_batch():
    histories = [np.arange(1, n + 1) for n in (2, 5, 40)]
    times = [100 * history for history in histories]
    mixed = {"reversed_share": 0.5, "dropped_share": 0.3}
    with_times = epoch_batches(histories, 10, 2, 0, 3, **mixed, times=times)
    for one, other in zip(with_times, epoch_batches(histories, 10, 2, 0, 3, **mixed), strict=True):
        assert one.times_BL.equal(100 * one.history_BL)
        assert one.history_BL.equal(other.history_BL)  # times change nothing of what is drawn
        assert one.following_BL.equal(other.following_BL)
