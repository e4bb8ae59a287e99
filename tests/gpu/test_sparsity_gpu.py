"""2:4 sparsity on a CUDA device: torch's sparse kernels answer as the dense ones.

Not run yet: no such machine was at hand when it was written.
"""

import copy

import pytest
import torch

from recommender.compression.sparsify import sparsify
from recommender.compression.sparsity import block_linears
from recommender.model import SequentialRecommender
from recommender.settings import ModelConfig, SparsifyStep

pytestmark = pytest.mark.gpu

ITEMS = 500


@pytest.mark.parametrize("backbone", ["transformer", "hstu"])
def test_sparse_kernels_read_what_sparsify_wrote(backbone: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=backbone, dim=128, layers=2, heads=2, feedforward=2, max_length=64, dropout=0.0
    )
    full = SequentialRecommender(config, torch.zeros(ITEMS + 1, 0), torch.zeros(ITEMS + 1)).eval()
    step = SparsifyStep(recovery={"epochs": 0})  # by magnitude, without training: no windows
    dense = sparsify(full, full, {}, step)[0].half().cuda()
    sparse = copy.deepcopy(dense)
    for layer in block_linears(sparse).values():
        layer.weight = torch.nn.Parameter(
            torch.sparse.to_sparse_semi_structured(layer.weight.detach()), requires_grad=False
        )
        assert layer.weight.values().numel() == layer.in_features * layer.out_features // 2
    history = torch.randint(1, ITEMS + 1, (32, config.max_length), device="cuda")
    with torch.inference_mode():
        expected, got = dense(history).float(), sparse(history).float()
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)
