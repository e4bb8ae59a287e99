"""What is cleaned and dropped of a source's rows: `source.cleaning`."""

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recommender.config import Section


class NearDuplicatesConfig(Section):
    """Items whose texts are all but the same, found by MinHash."""

    action: Literal["off", "report", "merge"] = Field(
        "off", description="report counts them; merge gives their events to the first of them"
    )
    threshold: float = Field(
        0.9, gt=0, lt=1, description="Jaccard similarity of the texts' word n-grams, at least"
    )
    ngram: int = Field(3, ge=1, le=10, description="words of an n-gram")
    permutations: int = Field(128, ge=16, le=1024, description="of MinHash: more is more exact")


class BotsConfig(Section):
    """Users whose events no person makes; all of such a user's events are dropped."""

    max_events_per_minute: int | None = Field(None, ge=1, description="in any minute of the clock")
    max_events_per_day: int | None = Field(None, ge=1, description="in any day, UTC")
    max_events: int | None = Field(None, ge=1, description="of a user in all")
    min_distinct_share: float | None = Field(
        None, gt=0, le=1, description="different items among a user's events, at least"
    )
    min_events: int = Field(
        50, ge=1, description="users with fewer events are not looked at for min_distinct_share"
    )


class KCoreConfig(Section):
    """The largest set in which every user and every item has so many events."""

    user_events: int = Field(1, ge=1, description="of a user, at least")
    item_events: int = Field(1, ge=1, description="of an item, at least")


class CleaningConfig(Section):
    """Rules that drop or change rows; every one is counted by its reason."""

    language: bool = Field(False, description="tag every item with the language of its text")
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    repeat_window_s: float = Field(
        0, ge=0, description="the same user, item and type again within this time is one event"
    )
    bots: BotsConfig = BotsConfig()
    k_core: KCoreConfig = KCoreConfig()
    max_lateness_days: float | None = Field(
        None,
        gt=0,
        description="events older by more than the newest of the partitions before their own are "
        "dropped; needs source.incremental.partition",
    )
    max_future_days: float | None = Field(
        None, ge=0, description="events newer than the moment of ingestion by more are dropped"
    )
    earliest: str | None = Field(
        None, description="ISO time, UTC if no zone; older events are dropped as out of range"
    )
    latest: str | None = Field(
        None, description="ISO time, UTC if no zone; newer events are dropped as out of range"
    )

    @field_validator("earliest", "latest")
    @classmethod
    def _is_a_time(cls, time: str | None) -> str | None:
        if time is not None:
            moment(time)
        return time

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.earliest and self.latest and moment(self.earliest) > moment(self.latest):
            raise ValueError("earliest must not be after latest")
        return self


def moment(time: str) -> datetime:
    """An ISO time, in UTC where it names no zone.

    Raises:
        ValueError: it is none.
    """
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError as error:
        raise ValueError(
            f"'{time}' is no ISO time; write such as 2024-01-31 or 2024-01-31T23:59:59+01:00"
        ) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
