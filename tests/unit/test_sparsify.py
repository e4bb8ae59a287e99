"""2:4 sparsity: which two of four stay, and that they stay the two whatever trains later."""

import pytest
import torch
from recommender_data import ITEMS, TEXT_DIM, write_windows

from recommender.compression.importance import training_batches
from recommender.compression.learning import learn
from recommender.compression.sparsify import input_norms, sparsify
from recommender.compression.sparsity import block_linears, is_two_of_four, two_of_four
from recommender.errors import KuberecError
from recommender.model import SequentialRecommender
from recommender.sequences import load_windows
from recommender.settings import LearningConfig, ModelConfig, SparsifyStep

WIDE = ModelConfig(dim=64, layers=1, heads=2, feedforward=1, max_length=10, dropout=0.1)
QUICK = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows"), users=32))


def make(**changes) -> SequentialRecommender:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(WIDE.model_dump() | changes)
    return SequentialRecommender(
        config, torch.randn(ITEMS + 1, TEXT_DIM), torch.randn(ITEMS + 1)
    ).eval()


def test_the_two_largest_of_four_stay():
    score = torch.tensor([[4.0, 1, 2, 3, 0, 0, 0, 9], [1, 1, 1, 1, 5, 6, 7, 8]])
    expected = [[1, 0, 0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0, 1, 1]]
    assert two_of_four(score).int().tolist() == expected
    assert is_two_of_four(two_of_four(score).float())
    assert not is_two_of_four(score)
    assert not is_two_of_four(torch.zeros(2, 8))


@pytest.mark.parametrize("backbone", ["transformer", "hstu"])
def test_half_of_each_linear_layer_is_zero_and_the_rest_as_it_was(backbone, splits):
    model = make(backbone=backbone)
    sparse, curve = sparsify(model, model, splits, SparsifyStep(recovery={"epochs": 0}))
    assert curve == []
    layers, before = block_linears(sparse), block_linears(model)
    assert len(layers) == (5 if backbone == "transformer" else 2)
    for name, layer in layers.items():
        assert is_two_of_four(layer.weight)
        assert float((layer.weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
        kept = layer.weight != 0
        assert torch.equal(layer.weight[kept], before[name].weight[kept])
        left, gone = before[name].weight.abs()[kept], before[name].weight.abs()[~kept]
        assert left.mean() > 2 * gone.mean()
        assert not is_two_of_four(before[name].weight)  # the model it came from is as it was
    assert torch.equal(sparse.id_embedding.weight, model.id_embedding.weight)


def test_zeros_outlast_recovery_and_every_later_training(splits):
    model = make()
    sparse, curve = sparsify(model, model, splits, SparsifyStep(recovery=QUICK))
    assert len(curve) == 1
    assert sparse.config.dropout == 0
    zeros = {name: layer.weight == 0 for name, layer in block_linears(sparse).items()}
    config = LearningConfig(epochs=1, batch_size=16, learning_rate=0.01)
    before = {name: layer.weight.clone() for name, layer in block_linears(sparse).items()}
    later, _ = learn(sparse, model, splits, config)
    for name, layer in block_linears(later).items():
        assert is_two_of_four(layer.weight)
        assert torch.equal(layer.weight == 0, zeros[name])
        assert not torch.equal(layer.weight, before[name])


def test_wanda_weighs_by_what_is_read(splits):
    model = make()
    batches = training_batches(splits["train"], model.config, 16, 42)
    norms = input_norms(model, batches)
    # Of the first layer against the normed items themselves, without padding.
    block = model.backbone.blocks[0]
    with torch.no_grad():
        table = model.item_table()
        read = torch.cat(
            [
                block.attention_norm(model.input_norm(table[batch.history_BL]))[
                    batch.history_BL > 0
                ]
                for batch in batches
            ]
        )
    torch.testing.assert_close(norms["0.query"], read.norm(dim=0))
    assert set(norms) == set(block_linears(model))
    step = SparsifyStep(importance="wanda", windows=16, recovery={"epochs": 0})
    sparse, _ = sparsify(model, model, splits, step)
    expected = two_of_four(block.query.weight.abs() * norms["0.query"])
    assert torch.equal(sparse.backbone.blocks[0].query.weight != 0, expected)
    assert not torch.equal(expected, two_of_four(block.query.weight.abs()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 48}, "dim is 48: NVIDIA's 2:4 kernels read multiples of 64"),
        (
            {"blocks": [{"heads": 1, "head_dim": 32, "inner": 64}]},
            "heads x head_dim of block 0 is 32",
        ),
        ({"blocks": [{"heads": 2, "head_dim": 32, "inner": 40}]}, "MLP's width of block 0 is 40"),
    ],
)
def test_widths_that_no_sparse_kernel_reads_are_refused(changes, message, splits):
    model = make(**changes)
    with pytest.raises(KuberecError, match=message):
        sparsify(model, model, splits, SparsifyStep())
