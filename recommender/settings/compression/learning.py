"""How a smaller model learns from the full one, in whichever step it does."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class LearningConfig(Section):
    """A training with the full model as the teacher (recommender.compression.learning)."""

    epochs: int = Field(default=8, gt=0, description="passes over the training histories")
    batch_size: int = Field(default=64, gt=0, description="windows a batch")
    learning_rate: float = Field(default=3e-3, gt=0, le=1, description="peak, of AdamW")
    temperature: float = Field(default=1.0, gt=0, description="of both softmaxes")
    average_decay: float = Field(default=0.98, ge=0, lt=1, description="as in training")
    reversed_share: float = Field(default=0.5, ge=0, le=1, description="as in training")
    dropped_share: float = Field(
        default=0.15, ge=0, lt=1, description="items left out of a window, for new histories"
    )
    soft_share: float = Field(
        default=1.0, ge=0, le=1, description="of the teacher's targets in the loss"
    )
    hidden_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the loss between hidden states of both models' blocks, added; 0: none",
    )
    hidden_loss: Literal["cosine", "mse"] = Field(
        default="cosine",
        description="cosine: direction alone (DistilBERT); mse: size too (TinyBERT). Where widths "
        "differ, a linear map of the student's states is learnt, and thrown away",
    )
    ranking_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the loss over the order of the teacher's best items, added; 0: none",
    )
    ranking_top: int = Field(
        default=10, gt=0, description="best items of the teacher whose order is learnt"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of matrix products, as in training; sums are float32"
    )
    seed: int = Field(default=42, ge=0, description="of new weights, batches and dropout")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's choice")
