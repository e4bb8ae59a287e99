"""What the model makes of items it was not trained on: ridge regression, the map, the boost."""

from pathlib import Path

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TEXT_DIM, TINY, random_model

from recommender.errors import KuberecError
from recommender.evaluation import metrics
from recommender.item_inputs import Gate, events_of_rarest
from recommender.model import SequentialRecommender
from recommender.new_items import (
    PENALTIES,
    ItemMap,
    calibrate,
    fit_item_map,
    predicted,
    ridge,
    rows_as_new,
)
from recommender.sequences import Split, log_popularity

RNG = np.random.default_rng(0)


def test_ridge_takes_the_penalty_with_the_least_leave_one_out_error() -> None:
    x = RNG.normal(size=(40, 6))
    y = x @ RNG.normal(size=(6, 3)) + RNG.normal(size=(40, 3)) + 2.0

    def left_out(penalty: float) -> float:
        """By 40 fits."""
        error = 0.0
        for row in range(len(x)):
            rest = np.arange(len(x)) != row
            mean_x, mean_y = x[rest].mean(axis=0), y[rest].mean(axis=0)
            a = x[rest] - mean_x
            weights = np.linalg.solve(a.T @ a + penalty * np.eye(6), a.T @ (y[rest] - mean_y))
            error += float(np.square(y[row] - mean_y - (x[row] - mean_x) @ weights).sum())
        return error

    weights, intercept, found = ridge(x, y)
    best = min(PENALTIES, key=left_out)
    assert found["penalty"] == best
    total = float(np.square(y - y.mean(axis=0)).sum())
    # Ours leaves one out with all rows' mean: a part in 40 of the spread.
    assert found["r2"] == pytest.approx(1 - left_out(best) / total, abs=0.03)
    a = x - x.mean(axis=0)
    expected = np.linalg.solve(a.T @ a + best * np.eye(6), a.T @ y)
    np.testing.assert_allclose(weights, expected, atol=1e-9)
    np.testing.assert_allclose(intercept, y.mean(axis=0) - x.mean(axis=0) @ expected, atol=1e-9)


def test_where_texts_say_everything_a_new_item_gets_the_row_that_it_would_have_had() -> None:
    model = random_model()
    with torch.no_grad():
        said = torch.randn(TEXT_DIM, TINY.dim)
        model.id_embedding.weight.copy_(model.text_vectors @ said + 1.0)
    found = fit_item_map(model, [{"name": "encoder"}])
    assert found is not None
    assert found.about["r2"] > 0.99
    assert found.about["parts"] == [{"name": "encoder"}]
    text = torch.randn(5, TEXT_DIM)
    with torch.no_grad():
        expected = text @ said + 1.0 + model.text_projection(text)
    np.testing.assert_allclose(found.rows(text.numpy()), expected.numpy(), atol=0.05)


def test_an_image_is_added_and_a_missing_one_has_the_learnt_vector() -> None:
    images = torch.randn(ITEMS + 1, 3)
    images[4] = 0
    torch.manual_seed(0)
    text = torch.randn(ITEMS + 1, TEXT_DIM)
    model = SequentialRecommender(TINY, text, torch.randn(ITEMS + 1), images).eval()
    torch.nn.init.normal_(model.image.default)
    torch.nn.init.zeros_(model.id_embedding.weight)
    found = fit_item_map(model)
    assert found is not None
    rows = found.rows(text[3:5].numpy(), [images[3].numpy(), None])
    np.testing.assert_allclose(rows, model.item_table()[3:5].detach().numpy(), atol=1e-4)
    with pytest.raises(KuberecError, match="image vector of 2 numbers, but the model reads 3"):
        found.rows(text[3:4].numpy(), [np.zeros(2)])


def test_it_is_kept_whole_and_texts_of_another_width_are_refused(tmp_path: Path) -> None:
    found = fit_item_map(random_model())
    assert found is not None
    found.save(tmp_path)
    again = ItemMap.load(tmp_path)
    assert again.about == found.about
    text = RNG.normal(size=(2, TEXT_DIM)).astype(np.float32)
    np.testing.assert_array_equal(again.rows(text), found.rows(text))
    with pytest.raises(KuberecError, match=r"shape \(2, 5\), but the model reads 8 dimensions"):
        again.rows(text[:, :5])


def test_a_model_that_knows_items_by_id_alone_has_no_map() -> None:
    model = SequentialRecommender(TINY, torch.zeros(ITEMS + 1, 0), torch.zeros(ITEMS + 1))
    assert fit_item_map(model) is None
    assert calibrate(model, split()) is None


@pytest.mark.parametrize("fewest", [0, 3])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_gate_and_cosines_are_those_of_an_item_without_events(similarity, fewest) -> None:
    """The row of an item that training never saw, whose id happens to be what the map predicts."""
    config = TINY.model_copy(update={"fusion": "gate", "similarity": similarity})
    torch.manual_seed(0)
    counts = fewest + np.maximum(np.arange(ITEMS + 1) - 2, 0)  # items 1 and 2 have the fewest
    popularity = torch.from_numpy(log_popularity(counts))
    images = torch.randn(ITEMS + 1, 3)
    model = SequentialRecommender(config, torch.randn(ITEMS + 1, TEXT_DIM), popularity, images)
    for weight in model.eval().parameters():
        torch.nn.init.normal_(weight)
    found = fit_item_map(model)
    assert found is not None
    assert bool(found.about.get("normalised")) == (similarity == "cosine")
    text_NT = model.text_vectors[1:].numpy()
    told_ND = predicted(text_NT, model.id_embedding.weight.detach().numpy()[1:], text_NT)
    with torch.no_grad():
        model.id_embedding.weight[1:] = torch.from_numpy(told_ND).float()
    as_new = rows_as_new(model, np.arange(ITEMS) < 2, told_ND[:2])
    assert model.gate is not None
    model.gate.log_events[1:3] -= np.log(1 + fewest)  # had these two had no events
    expected = model.item_table().detach().numpy()[1:3]
    rows = found.rows(text_NT[:2], list(images[1:3].numpy()))
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    np.testing.assert_allclose(as_new, expected, atol=1e-4)


@pytest.mark.parametrize("fewest", [0, 1, 4, 40])
def test_the_rarest_items_events_are_known_from_shares_alone(fewest) -> None:
    counts = np.append(0, fewest + (np.random.default_rng(0).pareto(1, 1000) * 5).astype(int))
    gate = Gate(torch.from_numpy(log_popularity(counts)), 1)
    assert events_of_rarest(gate.log_events[1:, 0]) == counts[1:].min()


def split(rows: int = 400) -> Split:
    targets = RNG.integers(1, ITEMS + 1, rows)
    histories = [RNG.integers(1, ITEMS + 1, 5) for _ in range(rows)]
    return Split([str(row) for row in range(rows)], histories, targets)


@pytest.mark.parametrize("changes", [{}, {"fusion": "gate", "similarity": "cosine"}])
def test_the_boost_gives_items_the_room_that_they_have_events_for(changes) -> None:
    found = calibrate(random_model(TINY.model_copy(update=changes)), split())
    assert found is not None
    assert found["places"] == pytest.approx(found["events"], abs=0.02)

    def lower(text: np.ndarray, ids: np.ndarray, new: np.ndarray) -> np.ndarray:
        return predicted(text, ids, new) * 0 - ids.mean(axis=0)

    other = calibrate(random_model(), split(), lower)
    assert other is not None
    assert other["places"] == pytest.approx(other["events"], abs=0.02)
    assert other["boost"] != found["boost"]


def test_the_boost_is_sought_with_as_many_users_at_a_time_as_memory_allows(monkeypatch) -> None:
    model, users = random_model(), split(40)
    whole = calibrate(model, users)
    assert whole is not None
    monkeypatch.setattr(metrics, "CELLS", 7 * (ITEMS + 1))
    held: list[int] = []
    encode = model.encode

    def counted(history: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        held.append(len(history))
        return encode(history, *given, **named)

    monkeypatch.setattr(model, "encode", counted)
    assert calibrate(model, users) == whole
    assert held == [7, 7, 7, 7, 7, 5]
