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

import importlib.metadata
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ingestion.cleaning.settings import CleaningConfig
from ingestion.engines.settings import EngineConfig
from ingestion.errors import IngestError
from ingestion.incremental.settings import IncrementalConfig
from ingestion.privacy.settings import PrivacyConfig
from recommender.config import Section
from recommender.files import fingerprint, sha256_file
from recommender.schema import ITEM_ID, TIMESTAMP, TITLE, USER_ID


class TableSource(Section):
    """One table's files: all of one format and with the same columns."""

    required: ClassVar[tuple[str, ...]] = ()

    path: str = Field(
        min_length=1,
        description="a file, or a glob pattern; inside `package` when that is given",
    )
    package: str | None = Field(
        None, description="an installed distribution that carries the file (it is never imported)"
    )
    format: Literal["csv", "tsv", "jsonl", "parquet"] = Field(
        description="csv and tsv have a header line; jsonl is one JSON object a line"
    )
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="of csv and tsv; default comma and tab"
    )
    quote: str | None = Field(
        None,
        max_length=1,
        description='of csv and tsv, "" for none; default " for csv, none for tsv',
    )
    encoding: Literal["utf-8", "latin-1", "utf-16"] = Field(
        "utf-8", description="of csv and tsv files"
    )
    columns: dict[str, str] = Field(description="our column name: the file's column name")

    @model_validator(mode="after")
    def _maps_what_is_needed(self) -> Self:
        missing = [name for name in self.required if name not in self.columns]
        if missing:
            raise ValueError(
                f"columns must map {', '.join(self.required)}; missing: {', '.join(missing)}"
            )
        return self


class EventsSource(TableSource):
    required: ClassVar[tuple[str, ...]] = (USER_ID, ITEM_ID, TIMESTAMP)

    time_unit: Literal["s", "ms", "us", "iso"] = Field(
        "s",
        description="of the timestamp column: since 1970 in s, ms or us, or iso (UTC if no zone)",
    )
    event_type: str = Field(
        "interaction",
        min_length=1,
        description="every event's type, unless columns maps event_type",
    )
    value: float = Field(
        1.0, allow_inf_nan=False, description="every event's value, unless columns maps value"
    )


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
    engine: EngineConfig = EngineConfig()
    cleaning: CleaningConfig = CleaningConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    incremental: IncrementalConfig = IncrementalConfig()
    max_reject_fraction: float = Field(
        0.05, ge=0, le=1, description="of a table's rows, above which ingestion fails"
    )

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


def locate(table: str, source: TableSource) -> list[Path]:
    """The files of a table, sorted by name.

    Raises:
        IngestError: naming the path or package that is not there.
    """
    if source.package is None:
        pattern = Path(source.path).expanduser().absolute()
    else:
        try:
            distribution = importlib.metadata.distribution(source.package)
        except importlib.metadata.PackageNotFoundError as error:
            raise IngestError(
                f"{table}: package '{source.package}' is not installed, so its file "
                f"'{source.path}' cannot be read; install it (`make install` does), or set "
                f"source.{table}.path to a file and drop `package`"
            ) from error
        pattern = Path(str(distribution.locate_file(source.path)))
    if pattern.is_file():
        return [pattern]
    root = Path(pattern.anchor)
    files = sorted(file for file in root.glob(str(pattern.relative_to(root))) if file.is_file())
    if not files:
        where = f"in package '{source.package}'" if source.package else f"from '{Path.cwd()}'"
        raise IngestError(
            f"{table}: no file matches '{source.path}' {where}; "
            f"correct source.{table}.path, or put the file there"
        )
    return files


def source_fingerprint(config: SourceConfig) -> str:
    """sha256 over the content of every source file, table by table in file order.

    Raises:
        IngestError: if a file is missing.
    """
    content: dict[str, Any] = {
        table: [sha256_file(file) for file in locate(table, source)]
        for table, source in config.tables().items()
    }
    return fingerprint(content)
