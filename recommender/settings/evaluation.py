"""`evaluation`: what a model must reach."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class EvaluationConfig(Section):
    """The evaluation gate: what a model must reach on the test split."""

    baselines: list[Literal["popularity", "item-knn", "recent item-knn"]] = Field(
        default=["popularity", "item-knn", "recent item-knn"],
        min_length=1,
        description="those that the margin is over; all are measured and shown",
    )
    min_ndcg_margin: float = Field(
        default=0.02,
        ge=-1,
        description="NDCG@10 above the best baseline's, as a share of it; below 0: may be worse",
    )
    min_ndcg: float = Field(default=0.0, ge=0, le=1, description="NDCG@10, absolute")
    min_hr: float = Field(default=0.0, ge=0, le=1, description="HR@10, absolute")
