"""Where a run's tables come from and how their columns are called: the `source` config section.

    source:
      name: movielens-100k
      events:
        package: recbole
        path: recbole/dataset_example/ml-100k/ml-100k.inter
        format: tsv
        columns: {user_id: user_id, item_id: item_id, timestamp: timestamp, value: rating}
        time_unit: s

`columns` maps our names to the file's. A name that is not one of ours renames a column that
rides along; columns that are not mentioned ride along under their own names.
"""

import math
import re
from string import Formatter
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ingestion.cleaning.settings import CleaningConfig
from ingestion.incremental.settings import IncrementalConfig
from ingestion.privacy.settings import PrivacyConfig
from ingestion.reading.settings import DownloadConfig, StorageConfig
from ingestion.reading.table import TableSource, is_url, paths_of
from ingestion.validation.quarantine_settings import QuarantineConfig
from recommender.config import Section
from recommender.engines.settings import EngineConfig
from recommender.schema import ITEM_ID, TIMESTAMP, TITLE, USER_ID

# Of strptime's; ingestion/patterns.py reads them.
TIME_DIRECTIVES = frozenset("YymdHIMSfpbBjz%")


class EventsSource(TableSource):
    required: ClassVar[tuple[str, ...]] = (USER_ID, ITEM_ID, TIMESTAMP)

    time_unit: Literal["s", "ms", "us", "ns", "iso"] = Field(
        "s",
        description="of the timestamp column: since 1970 in s, ms, us or ns, or iso (UTC if no "
        "zone); a column of dates or times needs none",
    )
    time_format: str | None = Field(
        None,
        description="of a timestamp column of text, instead of time_unit: '%d.%m.%Y %H:%M:%S' "
        "(UTC unless it has %z)",
    )
    event_type: str = Field(
        "interaction",
        min_length=1,
        description="every event's type, unless columns maps event_type",
    )
    value: float = Field(
        1.0, allow_inf_nan=False, description="every event's value, unless columns maps value"
    )
    event_weights: dict[str, float] = Field(
        {}, description="of event types: an event's value is multiplied by it; others by 1"
    )

    @field_validator("time_format")
    @classmethod
    def _is_a_time_format(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        directives = re.findall(r"%(.?)", pattern)
        unknown = [f"%{name}" for name in directives if name not in TIME_DIRECTIVES or not name]
        if unknown or not set(directives) - {"%"}:
            allowed = " ".join(f"%{name}" for name in sorted(TIME_DIRECTIVES))
            raise ValueError(
                "must be a pattern such as '%Y-%m-%d %H:%M:%S'; "
                + (f"unknown: {', '.join(unknown)}; " if unknown else "")
                + f"allowed: {allowed}"
            )
        if not set(directives) & {"Y", "y"}:
            raise ValueError("must have a year, %Y or %y")
        return pattern

    @field_validator("event_weights")
    @classmethod
    def _weights_are_numbers(cls, weights: dict[str, float]) -> dict[str, float]:
        if endless := [name for name, weight in weights.items() if not math.isfinite(weight)]:
            raise ValueError(f"must be finite numbers: {', '.join(endless)}")
        return weights

    @model_validator(mode="after")
    def _one_way_to_read_times(self) -> Self:
        if self.time_format is not None and self.time_unit in ("ms", "us", "ns"):
            raise ValueError(
                f"time_format reads text and time_unit {self.time_unit} numbers: drop one of them"
            )
        return self


class ItemsSource(TableSource):
    required: ClassVar[tuple[str, ...]] = (ITEM_ID, TITLE)

    category_separator: str | None = Field(
        None,
        min_length=1,
        description="splits the categories column; none = a list column, or one category an item",
    )
    title_article: bool = Field(False, description='turn "Godfather, The" into "The Godfather"')
    text: str = Field(
        "{title}",
        description="what the encoder reads beside the categories, from the item's columns: "
        "'{title} ({year})'",
    )

    @field_validator("text")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        if not template_columns(text):
            raise ValueError("must name at least one column in braces, such as '{title}'")
        return text


class UsersSource(TableSource):
    required: ClassVar[tuple[str, ...]] = (USER_ID,)


class SourceConfig(Section):
    """Everything that ingestion reads."""

    name: str = Field(min_length=1, description="of the data set")
    license: str | None = Field(None, description="terms of the data, kept with every snapshot")
    acknowledgement: str | None = Field(None, description="printed whenever the data is read")
    events: EventsSource
    items: ItemsSource
    users: UsersSource | None = Field(
        None, description="without it, the users are those that have events"
    )
    download: DownloadConfig | None = Field(
        None, description="fetches the files; relative paths are then in data/<name>/"
    )
    engine: EngineConfig = EngineConfig()
    cleaning: CleaningConfig = CleaningConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    incremental: IncrementalConfig = IncrementalConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    max_reject_fraction: float = Field(
        0.05, ge=0, le=1, description="of a table's rows, above which ingestion fails"
    )

    @model_validator(mode="after")
    def _one_client_a_store(self) -> Self:
        """DuckDB has one file system for all s3:// there is."""
        found: dict[str, tuple[str, StorageConfig]] = {}
        for table, source in self.tables().items():
            for path in filter(is_url, paths_of(source.path)):
                other, storage = found.setdefault(
                    path.partition("://")[0], (table, source.storage_options)
                )
                if storage != source.storage_options:
                    raise ValueError(
                        f"{table} and {other} must have the same storage_options, since both are "
                        f"read from {path.partition('://')[0]}://"
                    )
        return self

    @property
    def slug(self) -> str:
        """The name as folders bear it: "MovieLens 1M" is movielens-1m."""
        return folder_name(self.name)

    def tables(self) -> dict[str, TableSource]:
        """The configured tables, items before users before events (which refer to both)."""
        tables: dict[str, TableSource] = {"items": self.items}
        if self.users is not None:
            tables["users"] = self.users
        return tables | {"events": self.events}


def template_columns(template: str) -> list[str]:
    """Column names in a text template, in order.

    Raises:
        ValueError: if the braces do not match.
    """
    return [name for _, name, _, _ in Formatter().parse(template) if name]


def folder_name(source: str) -> str:
    """A source's name as folders bear it, in whatever script it is written."""
    return re.sub(r"[\W_]+", "-", source.lower()).strip("-") or "source"
