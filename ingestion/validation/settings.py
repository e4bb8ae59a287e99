"""The `validation` config section."""

from datetime import datetime
from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from ingestion.validation.skew_settings import SkewConfig
from recommender.config import Section

Severity = Literal["critical", "warning"]


class PersonalConfig(Section):
    """What identifies a person must not be in any text column of any table."""

    email: bool = Field(True, description="refuse e-mail addresses")
    phone: bool = Field(True, description="refuse phone numbers: +44 20 …, (212) 555-0100")
    card: bool = Field(True, description="refuse payment card numbers (prefix and Luhn check)")
    ignore_columns: list[str] = Field([], description="not looked at, as 'items.text'")


class InteractionsConfig(Section):
    """How people and items meet; outside of these a model learns little, or one bot."""

    min_events_per_user: float = Field(1.0, ge=0, description="mean over users, at least")
    quantile: float = Field(0.99, gt=0, lt=1, description="of users, for the next limit")
    max_events_per_user_quantile: float = Field(
        10_000, gt=0, description="events of the user at that quantile, at most"
    )
    max_events_of_a_user: int = Field(1_000_000, ge=1, description="of the busiest user, at most")
    min_item_gini: float = Field(
        0, ge=0, le=1, description="Gini of events over the items that have some; 0 = all alike"
    )
    max_item_gini: float = Field(0.999, ge=0, le=1, description="1 = all events on one item")
    max_unknown_item_share: float = Field(
        0.05, ge=0, le=1, description="events read whose item is in no items table, at most"
    )
    max_median_gap_days: float = Field(
        365, gt=0, description="between a user's sessions, the median; a session ends with a pause"
    )
    session_pause_minutes: float = Field(30, gt=0, description="that ends a session")
    long_gap_days: float = Field(365, gt=0, description="a gap between sessions that is long")
    max_long_gap_share: float = Field(0.9, ge=0, le=1, description="of the gaps, at most")
    max_gap_events: int = Field(
        5_000_000, ge=1000, description="gaps are measured on a share of users with so many events"
    )


class DriftConfig(Section):
    """How far a snapshot may be from the last accepted one of the same source."""

    enabled: bool = Field(True, description="compare with the last accepted snapshot")
    min_volume_ratio: float = Field(0.5, ge=0, le=1, description="rows by those accepted")
    max_volume_ratio: float = Field(2.0, ge=1, description="rows by those accepted")
    max_day_change: float = Field(
        0.25, ge=0, description="of a day's events that both have, but for the first and last day"
    )
    max_distance: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Jensen-Shannon distance (base 2) of hours, values, types and forms of ids",
    )
    max_category_distance: float = Field(
        0.3, ge=0, le=1, description="the same of items' categories and of popularity"
    )
    max_new_share: float = Field(
        0.05, ge=0, le=1, description="of events or items in types or categories that are new"
    )
    max_null_rate_change: float = Field(0.05, ge=0, le=1, description="of any column, upwards")
    max_days_back: float = Field(
        0, ge=0, description="that the newest event is older than the newest one accepted"
    )
    min_last_day_share: float = Field(
        0.1, ge=0, le=1, description="events of the last whole day by the median of 14 before"
    )
    min_kept_ids: float = Field(
        0.5, ge=0, le=1, description="of the accepted items and users, estimated by a sketch"
    )
    min_rows: int = Field(
        1000, ge=1, description="distances of fewer rows are chance, and not looked at"
    )


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
    max_mojibake_share: float = Field(
        0.001, ge=0, lt=1, description="titles and texts that were read in a wrong encoding"
    )
    personal: PersonalConfig = PersonalConfig()
    interactions: InteractionsConfig = InteractionsConfig()
    drift: DriftConfig = DriftConfig()
    skew: SkewConfig = SkewConfig()
    warn_only: list[str] = Field(
        [], description="checks that are reported but stop nothing, as 'events.timestamp.newest'"
    )
    severities: dict[str, Severity] = Field(
        {}, description="check: critical (stops the run) or warning, where the default does not do"
    )
    history: int = Field(30, ge=1, description="runs that Data Docs show, the newest ones")

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Self:
        for name in ("events", "items", "users", "value", "text_length"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{name} = {low} is above max_{name} = {high}")
        for name in self.warn_only:
            if self.severities.get(name) == "critical":
                raise ValueError(f"'{name}' is in warn_only, and critical in severities: drop one")
        return self
