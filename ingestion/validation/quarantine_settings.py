"""Parts of the events that are left out when they fail: `source.quarantine`."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class QuarantineConfig(Section):
    """Partitions that fail a check are dropped, named in rejects, and the run goes on."""

    by: Literal["off", "day", "partition"] = Field(
        "off",
        description="day = of the events' timestamp, UTC; partition = of source.incremental",
    )
    min_events: int | None = Field(None, ge=1, description="of a partition, at least")
    max_events: int | None = Field(None, ge=1, description="of a partition, at most")
    min_of_median: float | None = Field(
        None, gt=0, le=1, description="events of a partition by the median partition's, at least"
    )
    max_of_median: float | None = Field(
        None, ge=1, description="events of a partition by the median partition's, at most"
    )
    min_users: int | None = Field(None, ge=1, description="different users of a partition")
    copies: bool = Field(
        True, description="a partition with the same users, items and types as an earlier one fails"
    )
    max_share: float = Field(
        0.2, gt=0, le=1, description="of the partitions, above which ingestion fails instead"
    )
