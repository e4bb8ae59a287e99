"""Sampled softmax: that it is the full one in the limit, touches few rows, and learns."""

import itertools

import numpy as np
import pytest
import torch
from recommender_data import ITEMS, TINY, random_model
from torch.nn import functional

from recommender.errors import KuberecError
from recommender.sequences import Batch, Split
from recommender.training.averaging import averaged
from recommender.training.chunked_ranks import ranks_in_chunks
from recommender.training.losses import softmax_loss
from recommender.training.row_optimizer import (
    RowwiseAdamW,
    clip_gradients,
    require_one_process,
    row_tables,
    use_sparse_rows,
)
from recommender.training.sampled_softmax import (
    NegativeSampler,
    sampled_next_item_loss,
    sampled_softmax_loss,
)
from recommender.training.validation import ranks_of


def popularity(items: int = ITEMS) -> torch.Tensor:
    """Zipf's: the first item has most of the events."""
    share_N = 1 / torch.arange(1, items + 1)
    return torch.cat([torch.zeros(1), (share_N / share_N.sum()).log()])


def vectors(seed: int = 0, positions: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """hidden [M, D], items [N, D] (double: differences are the sample's), next items [M]."""
    torch.manual_seed(seed)
    hidden = torch.randn(positions, 6, dtype=torch.float64)
    items = torch.randn(ITEMS, 6, dtype=torch.float64)
    return hidden.requires_grad_(), items.requires_grad_(), torch.arange(positions) * 3


def sampled(hidden, items, following, negative, expected) -> torch.Tensor:
    same_MS = negative[None, :] == following[:, None]
    return sampled_softmax_loss(hidden, items[following], items[negative], same_MS, expected)


def test_draws_have_the_probabilities_that_are_said() -> None:
    sampler = NegativeSampler(popularity(), 60_000, seed=0)
    every = torch.arange(1, ITEMS + 1)
    expected_N = sampler.log_expected(every).exp()
    assert expected_N.sum() == pytest.approx(60_000, rel=1e-4)
    drawn = sampler.draw(5)
    assert drawn.min() >= 1
    found_N = torch.bincount(drawn, minlength=ITEMS + 1)[1:]
    deviation_N = (found_N - expected_N) / expected_N.sqrt()  # Poisson's
    assert deviation_N.abs().max() < 4
    assert torch.equal(drawn, sampler.draw(5))
    assert not torch.equal(drawn, sampler.draw(6))


def test_with_every_item_once_it_is_the_full_softmax() -> None:
    """Each item drawn once with an expected count of 1: the estimate is the denominator."""
    hidden, items, following = vectors()
    full = softmax_loss(hidden, items, following)
    slopes = torch.autograd.grad(full, [hidden, items])
    loss = sampled(hidden, items, following, torch.arange(ITEMS), torch.zeros(ITEMS))
    torch.testing.assert_close(loss, full)
    for ours, theirs in zip(torch.autograd.grad(loss, [hidden, items]), slopes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_formula() -> None:
    hidden, items, following = vectors()
    sampler = NegativeSampler(popularity(), 40, seed=1)
    negative = sampler.draw(0) - 1
    expected = sampler.log_expected(negative + 1)
    logits = (hidden @ items[negative].T - expected).masked_fill(
        negative[None, :] == following[:, None], -torch.inf
    )
    wanted = (hidden * items[following]).sum(dim=1, keepdim=True)
    naive = functional.cross_entropy(
        torch.cat([wanted, logits], dim=1), torch.zeros(7, dtype=torch.int64), reduction="sum"
    )
    loss = sampled(hidden, items, following, negative, expected)
    torch.testing.assert_close(loss.double(), naive, atol=1e-4, rtol=1e-5)
    slopes = torch.autograd.grad(naive, [hidden, items])
    for ours, theirs in zip(torch.autograd.grad(loss, [hidden, items]), slopes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_more_draws_come_closer_to_the_full_loss_and_gradient() -> None:
    hidden, items, following = vectors()
    full = softmax_loss(hidden, items, following)
    full_slope = torch.autograd.grad(full, items)[0]
    errors = []
    for count in (8, 128, 2048):
        sampler = NegativeSampler(popularity(), count, seed=2)
        losses, slopes = [], []
        for step in range(40):
            index = sampler.draw(step)
            loss = sampled(hidden, items, following, index - 1, sampler.log_expected(index))
            losses.append(float(loss.detach()))
            slopes.append(torch.autograd.grad(loss, items)[0])
        apart = torch.stack(slopes) - full_slope
        errors.append(
            (
                np.abs(np.array(losses) - float(full.detach())).mean(),
                float(apart.flatten(1).norm(dim=1).mean()),
            )
        )
        bias = float(torch.stack(slopes).mean(0).sub(full_slope).norm() / full_slope.norm())
    for fewer, more in itertools.pairwise(errors):
        assert more[0] < fewer[0] / 2  # 16 times the draws: a quarter of the error, by theory
        assert more[1] < fewer[1] / 2
    assert bias < 0.02
    assert errors[-1][0] / float(full.detach()) < 0.02


def test_a_step_of_a_model_is_that_of_the_whole_table_over_the_drawn_items() -> None:
    """Rows by index, remapped, give what the table gives; nothing but these rows has a gradient."""
    config = TINY.model_copy(update={"fusion": "gate", "dropout": 0.0})
    model = random_model(config)
    use_sparse_rows(model)
    history = torch.tensor([[3, 5, 7, 0], [9, 3, 4, 8]])
    following = torch.tensor([[5, 7, 9, 0], [3, 4, 8, 2]])
    sampler = NegativeSampler(popularity(), 6, seed=0)
    negative = sampler.draw(0)
    expected = sampler.log_expected(negative)
    loss = sampled_next_item_loss(model, Batch(history, following, None), negative, expected)
    loss.backward()
    table = model.item_table()
    hidden = model.encode(history, table, right_padded=True)[following > 0]
    wanted = following[following > 0]
    torch.testing.assert_close(loss, sampled(hidden, table, wanted, negative, expected))
    slope = model.id_embedding.weight.grad
    assert slope.is_sparse
    read = set(history.flatten().tolist() + following.flatten().tolist() + negative.tolist())
    assert set(slope.coalesce().indices()[0].tolist()) == read
    assert len(read) < ITEMS


def test_rows_move_as_adam_moves_them_one_moment_a_row() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(5, 3, sparse=True)
    expected = table.weight.detach().clone()
    group = {"params": [table.weight], "rows": True, "weight_decay": 0.1}
    other = torch.nn.Parameter(torch.ones(2))
    optimizer = RowwiseAdamW([group, {"params": [other]}], lr=0.05, betas=(0.9, 0.98))
    square, count = torch.zeros(5), torch.zeros(5)
    for rows in ([1, 1, 3], [3], [3, 0]):
        slope = torch.zeros(5, 3)
        weights = torch.randn(len(rows), 3)
        (table(torch.tensor(rows)) * weights).sum().backward()
        for row, weight in zip(rows, weights, strict=True):
            slope[row] += weight
        other.grad = torch.ones(2)
        optimizer.step()
        optimizer.zero_grad()
        for row in set(rows):
            count[row] += 1
            square[row] = 0.98 * square[row] + 0.02 * slope[row].square().mean()
            size = (square[row] / (1 - 0.98 ** count[row])).sqrt() + 1e-8
            expected[row] = expected[row] * (1 - 0.05 * 0.1) - 0.05 * slope[row] / size
    torch.testing.assert_close(table.weight.detach(), expected)
    assert other.max() < 1  # the rest is AdamW's
    state = optimizer.state[table.weight]
    assert {value.numel() for value in state.values()} == {5}


def test_several_processes_are_refused() -> None:
    with pytest.raises(KuberecError, match="trains in one process, and these are 2"):
        require_one_process(2)


def test_sparse_gradients_are_clipped_with_the_others() -> None:
    table, other = torch.nn.Embedding(4, 2, sparse=True), torch.nn.Parameter(torch.zeros(3))
    table(torch.tensor([1, 1, 2])).sum().backward()  # rows 1: (2, 2), 2: (1, 1)
    other.grad = torch.full((3,), 3.0)
    norm = clip_gradients([table.weight, other], 1.0)
    assert float(norm) == pytest.approx((4 * 2 + 2 + 27) ** 0.5)
    left = table.weight.grad.to_dense().square().sum() + other.grad.square().sum()
    assert float(left) == pytest.approx(1.0, rel=1e-4)


def test_the_average_has_no_copy_of_a_table_of_rows() -> None:
    model = random_model()
    use_sparse_rows(model)
    average = averaged(model)
    assert average.id_embedding.weight is model.id_embedding.weight
    assert model.id_embedding.weight.requires_grad
    assert average.input_norm.weight is not model.input_norm.weight
    assert row_tables(model) == [model.id_embedding.weight]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_ranks_in_chunks_are_those_of_all_scores(similarity) -> None:
    model = random_model(TINY.model_copy(update={"similarity": similarity})).requires_grad_(False)
    with torch.no_grad():  # ties, which count against the target
        model.id_embedding.weight[8] = model.id_embedding.weight[9]
        model.text_vectors[8] = model.text_vectors[9]
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, ITEMS + 1, size=size) for size in (3, 14, 1, 8, 5, 6)]
    targets = np.array([9, 8, 2, int(histories[3][1]), 30, 1])
    split = Split([f"u{row}" for row in range(6)], histories, targets)
    device, rows = torch.device("cpu"), [4, 0, 1, 2, 3, 5]
    found = ranks_in_chunks(model, split, rows, device, items_at_once=7)
    np.testing.assert_array_equal(found, ranks_of(model, split, rows, device))
    assert ranks_in_chunks(model, split, [], device).shape == (0,)
