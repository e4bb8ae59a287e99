"""The step `quantise-items`: the item table, which dominates a recommender's size.

`int8-rows` changes the graph alone; `pq` changes the model, which may then learn with its codes.
"""

import copy

import torch

from recommender.compression.candidate import Candidate, Work
from recommender.compression.catalogue import check_centroids
from recommender.compression.learning import learn, with_dropout
from recommender.compression.product_quantiser import fit_codebooks
from recommender.compression.shapes import check_items_shape
from recommender.compression.soundness import require_finite
from recommender.errors import KuberecError
from recommender.item_codes import ItemCodes
from recommender.model import SequentialRecommender
from recommender.row_codes import nearest_centroids
from recommender.settings import Int8ItemsStep, ProductItemsStep


def quantise_items(
    candidate: Candidate, step: Int8ItemsStep | ProductItemsStep, work: Work
) -> Candidate:
    """The candidate with its item table quantised.

    Raises:
        KuberecError: the table's shape does not fit, or it has numbers that are none; its items
            are codes already.
    """
    model = candidate.model
    check_items_shape(step, model.config.dim)
    if isinstance(step, Int8ItemsStep):
        require_finite(model, "the model before " + step.step)
        return candidate.written(int8_items=True)
    check_centroids(step, model.text_vectors.shape[0] - 1)
    coded = with_codes(model, step)
    if not step.recovery.epochs:
        return candidate.of(coded, [])
    config = step.recovery
    coded = with_dropout(coded, config.dropout)
    return candidate.of(
        *learn(coded, work.teacher, work.splits, config, work.progress, name=step.step)
    )


def with_codes(model: SequentialRecommender, step: ProductItemsStep) -> SequentialRecommender:
    """A copy of `model` whose items are codes, which nothing has been learnt with yet."""
    if model.item_codes is not None:
        raise KuberecError(
            f"{step.step}: the items are codes already, by an earlier step: leave one of the two "
            "out"
        )
    require_finite(model, "the model before " + step.step)
    coded = copy.deepcopy(model)
    with torch.no_grad():
        table = model.item_table()
        lengths = None
        if model.config.similarity == "cosine":
            lengths = model.composed(model.id_embedding.weight, None).norm(dim=-1)
        table_ND = table.cpu().numpy()
        books = fit_codebooks(table_ND[1:], step.subvectors, step.centroids, step.seed)
        codes = torch.from_numpy(nearest_centroids(table_ND, books))
        items = ItemCodes(codes, torch.from_numpy(books), lengths)
        coded.read_codes(items.to(table.device))
    return coded.eval()
