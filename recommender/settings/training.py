"""`training`: how the model is trained."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class TrainingConfig(Section):
    """How the model is trained (recommender.training); selection is on validation NDCG@10."""

    epochs: int = Field(
        default=24, gt=0, description="at most; the learning rate's cosine ends here"
    )
    patience: int = Field(
        default=6, gt=0, description="epochs without a better NDCG@10 before the end"
    )
    batch_size: int = Field(default=64, gt=0, description="windows a step")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="peak, of AdamW")
    weight_decay: float = Field(
        default=0.01, ge=0, description="on matrices; not on norms and biases"
    )
    warmup_epochs: float = Field(default=2, ge=0, description="linear rise of the learning rate")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    loss: Literal["softmax", "sampled-softmax"] = Field(
        default="softmax",
        description="cross-entropy over all items, or over a sample of them, corrected for how "
        "likely each was drawn: for catalogues of a million items and more",
    )
    negatives: int = Field(
        default=8192,
        gt=0,
        description="items that sampled-softmax draws for a batch, shared by its positions",
    )
    reversed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="windows that are read backwards: neighbours predict each other",
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of a step's gradient")
    average_decay: float = Field(
        default=0.995,
        ge=0,
        lt=1,
        description="of the moving average of the weights, which is what is kept",
    )
    seed: int = Field(default=42, ge=0)
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's choice")
