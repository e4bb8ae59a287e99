"""New partitions only: `source.incremental`."""

from pydantic import Field

from recommender.config import Section


class IncrementalConfig(Section):
    """Partitions of the events by their files' paths; what has not changed is not read again."""

    partition: str | None = Field(
        None,
        description="regular expression with a group named partition, searched in each path: "
        "'dt=(?P<partition>[0-9-]+)'; none = every run reads everything",
    )
