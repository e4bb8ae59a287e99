"""What a model that was cut learns back, in whichever step cut it."""

from pydantic import Field

from recommender.settings.compression.learning import LearningConfig


class RecoveryConfig(LearningConfig):
    """A few epochs with the full model as the teacher: its weights are there, so they go slowly."""

    epochs: int = Field(
        default=4,
        ge=0,
        description="passes over the training histories; 0: none, nothing is learnt back",
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="peak, of AdamW")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="of the model, from this step on: it is smaller now"
    )
