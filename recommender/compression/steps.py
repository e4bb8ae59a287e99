"""The compression steps by name: each is a plain function on a candidate."""

from recommender.compression.candidate import Candidate, Work
from recommender.compression.distill import distil
from recommender.compression.prune import prune
from recommender.compression.quantise_items import quantise_items
from recommender.compression.quantise_step import quantise
from recommender.compression.sparsify import sparsify
from recommender.settings import (
    DistilStep,
    Int8ItemsStep,
    ProductItemsStep,
    PruneStep,
    QuantiseStep,
    SparsifyStep,
)
from recommender.settings.compression import Step


def take(step: Step, candidate: Candidate, work: Work) -> Candidate:
    """The candidate after `step`."""
    model, told = candidate.model, work.progress
    match step:
        case PruneStep():
            return candidate.of(*prune(model, work.teacher, work.splits, step, told))
        case SparsifyStep():
            return candidate.of(*sparsify(model, work.teacher, work.splits, step, told))
        case DistilStep():
            start = candidate.model
            return candidate.of(
                *distil(work.teacher, work.splits, step, work.progress, start=start)
            )
        case QuantiseStep():
            return quantise(candidate, step, work)
        case Int8ItemsStep() | ProductItemsStep():
            return quantise_items(candidate, step, work)
