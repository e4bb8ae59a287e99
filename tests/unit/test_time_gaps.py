"""What a model is told of the time between events: gaps alone, and only where it asks for them."""

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model

from recommender.backbones.positions import TIME_BUCKETS, TimeBias
from recommender.settings import ModelConfig

DAY = 86_400
NOW = 1_700_000_000


def timed(**changes: object) -> ModelConfig:
    return TINY.model_copy(update={"time": "gaps"} | changes)


KINDS = [timed(), timed(position="rotary"), timed(backbone="hstu")]
kinds = pytest.mark.parametrize("config", KINDS, ids=["distance", "rotary", "hstu"])


def histories(rows: int = 3, length: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    items = rng.integers(1, ITEMS + 1, (rows, length))
    times = NOW + np.cumsum(rng.integers(1, 9 * DAY, (rows, length)), axis=1)
    return torch.from_numpy(items), torch.from_numpy(times)


@kinds
def test_only_gaps_count(config: ModelConfig) -> None:
    model = random_model(config)
    items, times = histories()
    scores = model(items, times)
    torch.testing.assert_close(model(items, times + 400 * DAY), scores)
    stretched = times[:, :1] + 20 * (times - times[:, :1])
    assert (model(items, stretched) - scores).abs().max() > 1e-2


@kinds
def test_padding_has_no_time_and_none_told_is_unknown(config: ModelConfig) -> None:
    model = random_model(config)
    items, times = histories()
    padded = [torch.nn.functional.pad(each, (2, 0)) for each in (items, times)]
    torch.testing.assert_close(model(*padded), model(items, times))
    torch.testing.assert_close(model(items), model(items, torch.zeros_like(times)))
    assert (model(items) - model(items, times)).abs().max() > 1e-2


@kinds
def test_training_s_padding_and_all_positions_say_the_same(config: ModelConfig) -> None:
    model = random_model(config)
    items, times = histories()
    table = model.item_table()
    right = [torch.nn.functional.pad(each, (0, 2)) for each in (items, times)]
    every = model.encode(right[0], table, times_BL=right[1], right_padded=True)
    last = model.encode(items, table, times_BL=times, last_only=True)
    torch.testing.assert_close(every[:, items.shape[1] - 1], last[:, 0])


def test_a_model_without_times_does_not_look_at_them() -> None:
    model = random_model()
    items, times = histories()
    assert model(items, times).equal(model(items))


def test_buckets_are_logarithmic_and_tell_unknown_apart() -> None:
    bias = TimeBias(heads=1)
    with torch.no_grad():
        bias.weight[:, 0] = torch.arange(TIME_BUCKETS + 1)
    times = torch.tensor([[0, NOW, NOW, NOW + 1, NOW + DAY, NOW + 10**10]])
    from_second = bias(times)[0, 0, 1].tolist()
    # ln(1 + gap) / 0.301 of 0, 0, 1 s, a day, 317 years
    assert from_second == [TIME_BUCKETS, 0, 0, 2, 37, TIME_BUCKETS - 1]
    assert bias(times, last_only=True).equal(bias(times)[:, :, -1:])
