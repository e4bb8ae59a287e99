"""The `features` config section, and the one column name that all of this room shares."""

from typing import Literal, Self

from pydantic import Field, model_validator

from recommender.config import Section
from recommender.engines.settings import EngineConfig

EVENT_TIME = "event_time"  # when a row of an offline table becomes known


class FeatureConfig(Section):
    """Histories and the windows that training reads."""

    k_core: int = Field(
        5,
        ge=3,  # two targets a user, and something before them
        description="training keeps users and items with at least this many events of each other",
    )
    history_length: int = Field(
        1000, gt=0, le=100_000, description="latest events that a user's history holds"
    )
    train_windows: int | Literal["all"] = Field(
        1,
        description="windows of `history_length` events that training gets of a user, latest "
        "first; all: as many as reach the user's first event",
    )
    train_overlap: int = Field(
        0, ge=0, description="events that a training window shares with the one before it"
    )
    offline_rows: Literal["windows", "all"] = Field(
        "windows",
        description="rows of the offline histories: just before each cut-off and the latest; or "
        "after every event, exact at any time, but each with a whole history",
    )
    owner: str = Field(
        "",
        max_length=200,
        description="who answers for the features: a team or an address; `kuberec features status` "
        "and Feast show it",
    )
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _windows_can_move(self) -> Self:
        if self.train_windows != "all" and self.train_windows < 1:
            raise ValueError(f"train_windows is {self.train_windows}: 1 or more, or 'all'")
        if self.train_overlap >= self.history_length:
            raise ValueError(
                f"train_overlap is {self.train_overlap}, and windows of history_length "
                f"{self.history_length} would never move: choose less"
            )
        return self
