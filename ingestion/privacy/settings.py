"""Whose data it is: `source.privacy`."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class PrivacyConfig(Section):
    """Pseudonyms, retention and erasure."""

    user_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the secret key; user ids become HMAC-SHA256 of it",
    )
    retention_days: float | None = Field(
        None, gt=0, description="events older than the newest one by more are dropped"
    )
    drop_columns: dict[Literal["events", "items", "users"], list[str]] = Field(
        {}, description="of a table's files, columns that go no further: {events: [ip, phone]}"
    )
