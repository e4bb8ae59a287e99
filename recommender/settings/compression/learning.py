"""How a smaller model learns from the full one, in whichever step it does."""

from pydantic import Field

from recommender.config import Section


class LearningConfig(Section):
    """A training with the full model as the teacher (recommender.compression.learning)."""

    epochs: int = Field(default=8, gt=0)
    batch_size: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0, description="of both softmaxes")
    average_decay: float = Field(default=0.98, ge=0, lt=1, description="as in training")
    reversed_share: float = Field(default=0.5, ge=0, le=1, description="as in training")
    dropped_share: float = Field(
        default=0.15, ge=0, lt=1, description="items left out of a window, for new histories"
    )
    soft_share: float = Field(
        default=1.0, ge=0, le=1, description="of the teacher's targets in the loss"
    )
    seed: int = Field(default=42, ge=0)
