"""`compression`: the steps that make the model small, in any order, and its budgets."""

from typing import Annotated

from pydantic import Field

from recommender.config import Section
from recommender.settings.compression.distil import DistilStep
from recommender.settings.compression.learning import LearningConfig
from recommender.settings.compression.quantise import QuantiseStep

__all__ = ["CompressionConfig", "DistilStep", "LearningConfig", "QuantiseStep", "Step"]

Step = Annotated[DistilStep | QuantiseStep, Field(discriminator="step")]


class CompressionConfig(Section):
    """What is done to the full model, one step after the other; a blown budget stops the export."""

    steps: list[Step] = Field(
        default=[DistilStep(), QuantiseStep()],
        description="each has its name under `step`; none: the full model is served as it is",
    )
    max_quality_loss: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="NDCG@10 lost against the full model, as a share of it",
    )
    min_size_ratio: float = Field(
        default=4.0, gt=0, description="bytes of the full ranker / compressed"
    )
    min_speedup: float = Field(default=1.0, gt=0, description="p50 of the full ranker / compressed")
    max_bytes: int = Field(default=50_000_000, gt=0, description="of the compressed ranker.onnx")
