"""`training`: how the model is trained."""

from typing import Literal, Self

from pydantic import Field, model_validator

from recommender.config import Section


class TrainingConfig(Section):
    """How the model is trained (recommender.training); selection is on validation NDCG@10."""

    epochs: int = Field(
        default=24, gt=0, description="at most; the learning rate's cosine ends here"
    )
    patience: int = Field(
        default=6, gt=0, description="epochs without a better NDCG@10 before the end"
    )
    batch_size: int = Field(
        default=64,
        gt=0,
        description="windows that are in memory at a time, in all processes together",
    )
    accumulate: int = Field(
        default=1,
        gt=0,
        description="batches whose gradients make one optimiser step: learns as batch_size times "
        "this would, in the memory of one batch",
    )
    learning_rate: float = Field(
        default=2e-3,
        gt=0,
        le=1,
        description="peak, of AdamW; `kuberec find-lr` suggests one",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="on matrices; not on norms and biases"
    )
    warmup_epochs: float = Field(
        default=2,
        ge=0,
        description="linear rise of the learning rate, before its cosine; more of it is the first "
        "thing to try where the first epochs are unsteady",
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the target that is spread evenly over all items",
    )
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
    gradient_clip: float = Field(
        default=1.0, gt=0, description="largest norm of a step's gradient; longer ones are cut"
    )
    average_decay: float = Field(
        default=0.995,
        ge=0,
        lt=1,
        description="of the moving average of the weights, which is what is validated and kept: "
        "0.995 looks back over about 200 steps; 0 keeps the last step's weights",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="of matrix products; weights, optimiser and validation stay in float32. auto: "
        "bfloat16 where the device has instructions for it (CUDA GPUs since Ampere, CPUs with "
        "AVX512_BF16 or AMX), else float32. float16, with a scaler, is for older GPUs",
    )
    compile: bool = Field(
        default=False,
        description="torch.compile of the backbone: some minutes at the start, worth it where "
        "training takes hours; needs a C++ compiler on a CPU, triton on a GPU",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto",
        description="how torchrun's processes share the training; auto and ddp: each holds the "
        "whole model; fsdp: each holds a share of weights, gradients and optimiser, for models "
        "that do not fit one GPU",
    )
    deterministic: bool = Field(
        default=False,
        description="the same bytes of weights from two runs on like machines, slower on GPUs; an "
        "operation that cannot be so is an error. On a CPU runs are alike anyway",
    )
    checkpoint_steps: int = Field(
        default=500,
        ge=0,
        description="optimiser steps between resume files within an epoch, beside the one after "
        "each epoch; 0: none within",
    )
    divergence_ratio: float = Field(
        default=1.5,
        gt=1,
        description="a loss (its mean over about 20 steps) so many times its best is far above it",
    )
    divergence_patience: int = Field(
        default=200,
        gt=0,
        description="steps in a row that the loss may be far above its best before training stops",
    )
    seed: int = Field(default=42, ge=0, description="of weights, batches and dropout")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's choice")

    @model_validator(mode="after")
    def _sampled_softmax_has_sparse_gradients(self) -> Self:
        if self.loss != "sampled-softmax":
            return self
        for key, refused, why, other in (
            ("label_smoothing", self.label_smoothing > 0, "speaks of every item", "0"),
            ("strategy", self.strategy == "fsdp", "has no sparse gradients", "ddp"),
            ("precision", self.precision == "float16", "scales no sparse gradients", "bfloat16"),
        ):
            if refused:
                raise ValueError(
                    f"loss: sampled-softmax does not go with {key}: {getattr(self, key)}, which "
                    f"{why}: set {key}: {other}, or loss: softmax"
                )
        return self
