"""Structured pruning: whole blocks, heads and inner units are cut out, and tensors get smaller."""

import copy
import itertools

import torch
from torch import Tensor, nn

from recommender.backbones.base import make_backbone
from recommender.compression.importance import (
    Importance,
    blocks_of,
    columns_of,
    influence,
    loss_rises,
    magnitude,
    taylor,
    training_batches,
)
from recommender.compression.learning import learn, with_dropout
from recommender.compression.shapes import (
    check_prunable,
    kept_of,
    kept_of_all,
    pruned_shape,
    with_blocks,
)
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Split
from recommender.settings import BlockShape, PruneStep


def prune(
    model: SequentialRecommender,
    teacher: SequentialRecommender,
    splits: dict[str, Split],
    step: PruneStep,
    progress: Progress = silent,
) -> tuple[SequentialRecommender, list[dict[str, float]]]:
    """What is left of `model`, recovered, and the curve of its recovery; `model` stays as it is.

    Blocks go first; heads and units are weighed in the model without them. In HSTU a head that
    goes also leaves the norm over all heads, so that the others' outputs change with it.

    Raises:
        KuberecError: the step leaves nothing or keeps more than there is, or the model is a
            Hugging Face decoder.
    """
    pruned_shape(model.config, step)  # what cannot be is said before anything is measured
    batches = training_batches(splits["train"], model.config, step.windows, step.seed)
    layers = _layers_kept(model, batches, step)
    if len(layers) < model.config.layers:
        model = without_layers(model, layers)
    if step.heads is not None or step.feedforward is not None:
        important = taylor(model, batches) if step.importance == "taylor" else magnitude(model)
        model = narrowed(model, *_units_kept(important, step))
    model = with_dropout(model, step.recovery.dropout)
    if not step.recovery.epochs:
        return model.eval(), []
    return learn(model, teacher, splits, step.recovery, progress, name="pruned")


def without_layers(model: SequentialRecommender, layers: list[int]) -> SequentialRecommender:
    """A copy with the blocks `layers` alone, in their order."""
    check_prunable(model.config, PruneStep(layers=len(layers)))
    shapes = model.config.shapes()
    smaller = copy.deepcopy(model)
    smaller.backbone.blocks = nn.ModuleList(blocks_of(smaller)[layer] for layer in layers)
    smaller.config = with_blocks(model.config, [shapes[layer] for layer in layers])
    return smaller


def narrowed(
    model: SequentialRecommender, heads: list[Tensor], inner: list[Tensor]
) -> SequentialRecommender:
    """A copy whose blocks have some heads and inner units alone.

    Args:
        heads: numbers of those that stay in each block, int64, ascending; inner: the same of
            units, empty where a block has no MLP.
    """
    shapes, state = [], {}
    for place, block in enumerate(blocks_of(model)):
        parts = block.coupled(columns_of(block, heads[place]), heads[place], inner[place])
        for name, weight in block.state_dict().items():
            kept = weight.index_select(*parts[name]) if name in parts else weight
            state[f"blocks.{place}.{name}"] = kept
        shapes.append(
            BlockShape(
                heads=len(heads[place]),
                head_dim=block.heads_end.in_features // block.heads,
                inner=None if block.inner_end is None else len(inner[place]),
            )
        )
    smaller = copy.deepcopy(model)
    smaller.config = with_blocks(model.config, shapes)
    smaller.backbone = make_backbone(smaller.config)
    smaller.backbone.load_state_dict(state)
    return smaller.eval()


def _layers_kept(model: SequentialRecommender, batches: list[Batch], step: PruneStep) -> list[int]:
    there = model.config.layers
    count = kept_of("layers", step.layers, there)
    if count == there:
        return list(range(there))
    scores = (loss_rises if step.layer_importance == "loss" else influence)(model, batches)
    return _best(scores, count).tolist()


def _units_kept(important: Importance, step: PruneStep) -> tuple[list[Tensor], list[Tensor]]:
    """Numbers of the heads and of the units that stay, a block each."""
    kept = []
    for name, share, scores in (
        ("heads", step.heads, important.heads),
        ("feedforward", step.feedforward, important.inner),
    ):
        if share is not None and step.scope == "global":
            kept.append(_best_of_all(scores, kept_of_all(name, share, [len(s) for s in scores])))
        else:
            kept.append([_best(each, kept_of(name, share, len(each))) for each in scores])
    return kept[0], kept[1]


def _best(scores: Tensor, count: int) -> Tensor:
    """Numbers of the `count` highest, ascending; of equals the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _best_of_all(scores: list[Tensor], count: int) -> list[Tensor]:
    """The `count` highest of all blocks', the best of each among them.

    Blocks are made comparable by the L2 norm of their scores, as in Michel et al. 2019, section
    4.1 (after Molchanov et al. 2017, arXiv:1611.06440).
    """
    scores = [each / each.norm().clamp(min=torch.finfo(each.dtype).tiny) for each in scores]
    for each in scores:
        each[each.argmax()] = torch.inf
    ends = torch.tensor([0, *(len(each) for each in scores)]).cumsum(0)
    best = _best(torch.cat(scores), count)
    return [best[(best >= start) & (best < end)] - start for start, end in itertools.pairwise(ends)]
