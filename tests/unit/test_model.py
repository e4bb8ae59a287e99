"""What the model may and may not see, and that it survives a trip to disk."""

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model, vocabulary

from recommender.backbones.positions import distance_bucket
from recommender.model import load_model, save_model
from recommender.settings import ModelConfig


def histories(rows: int = 4, length: int = 10) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, ITEMS + 1, (rows, length)))


def test_a_later_item_does_not_change_what_was_predicted_before():
    model = random_model()
    history = histories()
    changed = history.clone()
    changed[:, 6:] = (changed[:, 6:] % ITEMS) + 1
    table = model.item_table()
    before, after = model.encode(history, table), model.encode(changed, table)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().amax(dim=(0, 2)).min() > 1e-3


def test_every_item_of_the_history_matters():
    model = random_model()
    history = histories(rows=1)
    scores = model(history)
    for place in range(history.shape[1]):
        changed = history.clone()
        changed[0, place] = changed[0, place] % ITEMS + 1
        assert (model(changed) - scores).abs().max() > 1e-4, f"place {place} is ignored"


@pytest.mark.parametrize("padding", [1, 7])
def test_left_padding_changes_nothing(padding):
    model = random_model()
    history = histories()
    padded = torch.nn.functional.pad(history, (padding, 0))
    torch.testing.assert_close(model(padded), model(history))


def test_other_rows_of_the_batch_change_nothing():
    model = random_model()
    history = histories()
    torch.testing.assert_close(model(history)[1:2], model(history[1:2]))


def test_an_empty_history_gives_numbers():
    assert torch.isfinite(random_model()(torch.zeros(1, 10, dtype=torch.int64))).all()


def test_order_matters():
    model = random_model()
    history = histories(rows=1)
    assert (model(history) - model(history.flip(1))).abs().max() > 1e-3


def test_the_last_position_alone_is_the_last_of_all_positions():
    model = random_model()
    history = histories()
    table = model.item_table()
    everywhere = model.encode(history, table)
    torch.testing.assert_close(model.encode(history, table, last_only=True), everywhere[:, -1:])


def test_text_speaks_for_an_item():
    model = random_model()
    scores = model(histories(rows=1))
    model.text_vectors[5] += 1.0
    changed = model(histories(rows=1))
    assert (changed[0, 5] - scores[0, 5]).abs() > 1e-3


def test_distance_buckets_are_exact_then_coarse_and_never_decrease():
    buckets = distance_bucket(torch.arange(2000))
    assert buckets[:16].tolist() == list(range(16))
    assert (buckets.diff() >= 0).all()
    assert buckets.max() == 31


def test_a_saved_model_scores_the_same(tmp_path):
    model = random_model()
    save_model(model, vocabulary(), tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == TINY
    torch.testing.assert_close(loaded(histories()), model(histories()), rtol=0, atol=0)


def test_a_vocabulary_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="30 items, the vocabulary has 29"):
        save_model(random_model(), vocabulary()[1:], tmp_path)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"dim \(16\) must be a multiple of heads \(3\)"):
        ModelConfig(dim=16, heads=3)
