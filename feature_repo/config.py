"""The `features` config section, and the one column name that all of this room shares."""

from pydantic import Field

from recommender.config import Section

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
    owner: str = Field(
        "",
        max_length=200,
        description="who answers for the features: a team or an address; `kuberec features status` "
        "and Feast show it",
    )
