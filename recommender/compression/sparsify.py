"""2:4 semi-structured sparsity of the blocks' linear layers, for sparse tensor cores.

The weights stay as many and their graph as large; on a CPU, and on a GPU by an engine that does
not look for zeros, an answer takes as long as before.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recommender.compression.importance import next_item_loss, training_batches
from recommender.compression.learning import learn, with_dropout
from recommender.compression.shapes import check_sparsifiable
from recommender.compression.sparsity import block_linears, two_of_four
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Split
from recommender.settings import SparsifyStep


def sparsify(
    model: SequentialRecommender,
    teacher: SequentialRecommender,
    splits: dict[str, Split],
    step: SparsifyStep,
    progress: Progress = silent,
) -> tuple[SequentialRecommender, list[dict[str, float]]]:
    """A copy of `model` with two of four weights 0, recovered, and the curve of its recovery.

    `learn` keeps the zeros, then and in every later step (`sparsity.keeping_zeros`). Items, norms,
    biases of positions and times stay as they are.

    Raises:
        KuberecError: a layer's width is not one that sparse kernels read.
    """
    check_sparsifiable(model.config)
    sparse = with_dropout(model, step.recovery.dropout).eval()
    norms: dict[str, Tensor] = {}
    if step.importance == "wanda":
        batches = training_batches(splits["train"], model.config, step.windows, step.seed)
        norms = input_norms(sparse, batches)
    with torch.no_grad():
        for name, layer in block_linears(sparse).items():
            score_OI = layer.weight.abs() * norms.get(name, torch.ones(()))
            layer.weight.mul_(two_of_four(score_OI))
    if not step.recovery.epochs:
        return sparse, []
    return learn(sparse, teacher, splits, step.recovery, progress, name="sparse")


@torch.no_grad()
def input_norms(model: SequentialRecommender, batches: list[Batch]) -> dict[str, Tensor]:
    """The L2 norm of each number that the blocks' linear layers read, over known positions.

    [I] a layer, by name: the second factor of Wanda's scores (Sun et al. 2023, arXiv:2306.11695,
    equation 1).
    """
    layers = block_linears(model)
    squares = {name: torch.zeros(layer.in_features) for name, layer in layers.items()}
    known_BL = torch.ones(0, dtype=torch.bool)

    def adds(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            squares[name] += given[0][known_BL].square().sum(dim=0)

        return hook

    hooks = [layer.register_forward_pre_hook(adds(name)) for name, layer in layers.items()]
    for batch in batches:
        known_BL = batch.history_BL > 0
        next_item_loss(model, batch)
    for hook in hooks:
        hook.remove()
    return {name: square.sqrt() for name, square in squares.items()}
