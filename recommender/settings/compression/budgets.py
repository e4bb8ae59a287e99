"""The budgets of `compression`: what must not be lost, and what must be gained."""

from typing import Annotated

from pydantic import Field

from recommender.config import Section

Loss = Annotated[float, Field(ge=0, le=1)]


class Budgets(Section):
    """What the version that serves is held to, against the full model exported as it is."""

    max_quality_loss: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="NDCG@10 lost against the full model, as a share of it",
    )
    max_slice_quality_loss: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the same in each slice of evaluation.min_slice_users; more fails if chance is "
        "ruled out, over all slices together; nothing: twice max_quality_loss; 1: not asked",
    )
    max_slice_losses: dict[str, Loss] = Field(
        default={},
        description="other limits of some slices, by their kind and name as the ledger has them, "
        "like 'item popularity: long tail'",
    )
    min_size_ratio: float = Field(
        default=4.0,
        gt=0,
        description="bytes of the full ranker / compressed; not asked where there are no steps",
    )
    min_speedup: float = Field(
        default=1.0, gt=0, description="p50 of the full ranker / compressed, batch 1; the same"
    )
    max_bytes: int = Field(default=50_000_000, gt=0, description="of the compressed ranker.onnx")
    max_p99_ms: float | None = Field(
        default=None,
        gt=0,
        description="batch 1, on the machine that compresses; nothing: not asked",
    )
    max_memory_bytes: int | None = Field(
        default=None,
        gt=0,
        description="that a process grows by which loads the ranker and answers batches of 1 and "
        "32; nothing: not asked",
    )
