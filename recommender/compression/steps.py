"""The compression steps by name: each is a plain function on a candidate."""

from recommender.compression.candidate import Candidate, Work
from recommender.compression.distill import distil
from recommender.settings import DistilStep, QuantiseStep
from recommender.settings.compression import Step


def take(step: Step, candidate: Candidate, work: Work) -> Candidate:
    """The candidate after `step`."""
    match step:
        case DistilStep():
            start = candidate.model
            return candidate.of(
                *distil(work.teacher, work.splits, step, work.progress, start=start)
            )
        case QuantiseStep():
            return candidate.written(quantised=step)
