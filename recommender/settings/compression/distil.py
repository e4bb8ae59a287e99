"""The step `distil`."""

from typing import Literal

from pydantic import Field

from recommender.settings.compression.learning import LearningConfig


class DistilStep(LearningConfig):
    """A student of a smaller shape learns from the full model (recommender.compression.distill)."""

    step: Literal["distil"] = "distil"
    dim: int | None = Field(default=None, gt=0, description="width; nothing: as before the step")
    layers: int = Field(default=1, gt=0, description="Transformer blocks")
    heads: int | None = Field(default=None, gt=0, description="nothing: as before the step")
    feedforward: int | None = Field(
        default=None,
        gt=0,
        description="inner width in multiples of dim; nothing: as before the step",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
