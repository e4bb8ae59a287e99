"""The `validation` config section."""

from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, Field, model_validator

from recommender.config import Section


class ValidationConfig(Section):
    """Limits that a snapshot has to keep."""

    min_events: int = Field(1, ge=1, description="rows of events, at least")
    max_events: int | None = Field(None, ge=1, description="rows of events, at most")
    min_items: int = Field(1, ge=1, description="rows of items, at least")
    max_items: int | None = Field(None, ge=1, description="rows of items, at most")
    min_users: int = Field(1, ge=1, description="rows of users, at least")
    max_users: int | None = Field(None, ge=1, description="rows of users, at most")
    min_value: float | None = Field(None, description="of an event's value")
    max_value: float | None = Field(None, description="of an event's value")
    min_text_length: int = Field(1, ge=1, description="characters of an item's text, at least")
    max_text_length: int = Field(20_000, ge=1, description="characters of an item's text, at most")
    earliest: AwareDatetime = Field(
        datetime.fromisoformat("1970-01-02T00:00:00Z"),
        description="no event is older; the default catches times of 0 and wrong units",
    )
    max_age_days: float | None = Field(
        None, gt=0, description="the newest event is at most this old; none = any age"
    )
    as_of: AwareDatetime | None = Field(
        None, description="the time that ages and futures are measured from; none = now"
    )
    warn_only: list[str] = Field(
        [], description="checks that are reported but stop nothing, as 'events.timestamp.newest'"
    )

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        for name in ("events", "items", "users", "value", "text_length"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name} = {low} is above max_{name} = {high}")
        return self
