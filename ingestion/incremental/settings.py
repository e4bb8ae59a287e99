"""New partitions only: `source.incremental`."""

import re
from typing import Literal

from pydantic import Field, field_validator

from recommender.config import Section


class IncrementalConfig(Section):
    """Partitions of the events by their files' paths; what has not changed is not read again."""

    partition: str | None = Field(
        None,
        description="regular expression with a group named partition, searched in each path: "
        "'dt=(?P<partition>[0-9-]+)'; none = every run reads everything",
    )
    removed: Literal["error", "drop", "keep"] = Field(
        "error",
        description="a partition that was read before and has no files any more: stop, drop its "
        "events, or keep them as they were read",
    )

    @field_validator("partition")
    @classmethod
    def _has_the_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if "partition" not in groups:
            raise ValueError(
                "needs a group named partition, such as 'dt=(?P<partition>[0-9-]+)' for "
                "events/dt=2026-11-27/part-0.csv"
            )
        return pattern
