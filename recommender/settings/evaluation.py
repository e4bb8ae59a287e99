"""`evaluation`: what a model must reach, and how it is measured."""

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from recommender.config import Section


class BehaviourConfig(Section):
    """What any sound sequence model does, whatever its NDCG (recommender.evaluation.behaviour)."""

    users: int = Field(default=1000, gt=0, description="test users, and items, that are looked at")
    max_reversed_overlap: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="order matters: mean overlap of a top 10 with that of the history read "
        "backwards; 1: not asked",
    )
    min_repeat_overlap: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a repeated click does not flip the list: mean overlap of a top 10 with that "
        "after the latest item once more; 0: not asked",
    )
    min_text_agreement: float = Field(
        default=0.55,
        ge=0,
        le=1,
        description="similar texts, similar vectors: share of items whose nearest by text is "
        "nearer to them in the model than a random item; 0: not asked",
    )
    max_popularity_ratio: float = Field(
        default=2.0,
        gt=0,
        description="popularity bias is bounded: mean training events of a shown item, over those "
        "of a chosen one; the popularity list alone has 2.3 to 10",
    )


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
    against_champion: bool = Field(
        default=True, description="compare with the model that serves, where the registry knows one"
    )
    max_champion_loss: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="NDCG@10 below the champion's, as a share of it; more fails if chance is ruled "
        "out; 1: not asked",
    )
    max_slice_loss: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="the same in each slice, chance ruled out over all of them; 1: not asked",
    )
    min_slice_users: int = Field(
        default=100,
        gt=0,
        description="of a slice that the gate looks at, of a category, a language",
    )
    bootstrap: int = Field(
        default=10_000, ge=1000, description="resamples of the users behind every interval"
    )
    seed: int = Field(default=0, ge=0, description="of resamples, shuffled ties and samples")
    activity_bounds: list[int] = Field(
        default=[5, 20, 50, 200],
        description="events of a history at which the next slice of activity begins, ascending",
    )
    new_user_events: int = Field(
        default=3, gt=0, description="latest events that are shown of a user who is taken for new"
    )
    head_share: float = Field(
        default=0.2, gt=0, lt=1, description="of training events: the most popular items"
    )
    tail_share: float = Field(
        default=0.2, gt=0, lt=1, description="of training events: the least popular items"
    )
    cold_item_events: int = Field(
        default=5, gt=0, description="an item with fewer training events is cold"
    )
    max_categories: int = Field(
        default=12, ge=0, description="slices of category, and of language: the commonest"
    )
    max_category_share: float = Field(
        default=0.9, gt=0, le=1, description="of users: a category of more tells nothing apart"
    )
    tie_shuffles: int = Field(
        default=3,
        ge=0,
        description="times that test is measured again with events of one timestamp shuffled",
    )
    behaviour: BehaviourConfig = BehaviourConfig()

    @model_validator(mode="after")
    def _bounds_and_shares(self) -> Self:
        bounds = [0, *self.activity_bounds]
        if any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(
                f"activity_bounds must ascend from 1 on, each more than the one before: got "
                f"{self.activity_bounds}"
            )
        if self.head_share + self.tail_share > 1:
            raise ValueError(
                f"head_share ({self.head_share}) and tail_share ({self.tail_share}) are more than "
                "all events: their sum is at most 1"
            )
        return self
