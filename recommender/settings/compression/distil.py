"""The step `distil`."""

from typing import Literal

from pydantic import Field

from recommender.settings.compression.learning import LearningConfig


class DistilStep(LearningConfig):
    """A student of a smaller shape learns from the full model (recommender.compression.distill)."""

    step: Literal["distil"] = "distil"
    backbone: Literal["transformer", "hstu"] | None = Field(
        default=None,
        description="of the student; nothing: as before the step, and transformer for a Hugging "
        "Face decoder's student",
    )
    dim: int | None = Field(default=None, gt=0, description="width; nothing: as before the step")
    layers: int = Field(default=1, gt=0, description="blocks")
    heads: int | None = Field(default=None, gt=0, description="nothing: as before the step")
    feedforward: int | None = Field(
        default=None,
        gt=0,
        description="inner width in multiples of dim; nothing: as before the step",
    )
    max_length: int | None = Field(
        default=None,
        gt=1,
        description="latest items that the student reads, no more than before the step; nothing: "
        "as many",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the student")
