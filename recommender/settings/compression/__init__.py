"""`compression`: the steps that make the model small, in any order, and its budgets."""

from typing import Annotated

from pydantic import Field

from recommender.settings.compression.budgets import Budgets
from recommender.settings.compression.distil import DistilStep
from recommender.settings.compression.items import (
    Int8ItemsStep,
    ProductItemsStep,
    QuantiseItemsStep,
)
from recommender.settings.compression.learning import LearningConfig
from recommender.settings.compression.prune import PruneStep
from recommender.settings.compression.quantise import QuantiseStep
from recommender.settings.compression.recovery import RecoveryConfig
from recommender.settings.compression.sparsify import SparsifyStep

__all__ = [
    "CompressionConfig",
    "DistilStep",
    "Int8ItemsStep",
    "LearningConfig",
    "ProductItemsStep",
    "PruneStep",
    "QuantiseStep",
    "RecoveryConfig",
    "SparsifyStep",
    "Step",
]

Step = Annotated[
    PruneStep | SparsifyStep | DistilStep | QuantiseStep | QuantiseItemsStep,
    Field(discriminator="step"),
]


class CompressionConfig(Budgets):
    """What is done to the full model, one step after the other; a blown budget stops the export."""

    steps: list[Step] = Field(
        default=[DistilStep(), QuantiseStep()],
        description="each has its name under `step`; none: the full model is served as it is",
    )
