"""One table of the `source` config section: what its reader has to know."""

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ingestion.reading.settings import FilterConfig, IcebergConfig, SqlConfig, StorageConfig
from recommender.config import Section

_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@")


class TableSource(Section):
    """One table's rows: files of one format and with the same columns, a lake's table, or SQL."""

    required: ClassVar[tuple[str, ...]] = ()

    path: str | list[str] | None = Field(
        None,
        description="a file, a folder, a glob pattern, or a list of these; a URL such as "
        "s3://bucket/events/*.parquet; inside `package`, or in the folder of the source's "
        "`download`, when that is given; of delta and iceberg, the table's folder",
    )
    package: str | None = Field(
        None, description="an installed distribution that carries the file (it is never imported)"
    )
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta", "iceberg", "sql"] = Field(
        description="csv and tsv have a header line, or `names`; jsonl is one JSON object a line"
    )
    compression: Literal["auto", "none", "gzip", "zstd"] = Field(
        "auto", description="of csv, tsv and jsonl; auto goes by the name: .gz, .zst"
    )
    delimiter: str | None = Field(
        None,
        min_length=1,
        description="of csv and tsv, up to 4 bytes; default comma and tab",
    )
    quote: str | None = Field(
        None,
        max_length=1,
        description='of csv and tsv, "" for none; default " for csv, none for tsv',
    )
    names: list[str] | None = Field(
        None, min_length=1, description="of the columns of csv and tsv files without a header line"
    )
    encoding: Literal["utf-8", "latin-1", "utf-16"] = Field(
        "utf-8", description="of csv and tsv files"
    )
    sql: SqlConfig | None = Field(None, description="of format sql")
    iceberg: IcebergConfig | None = Field(
        None, description="of format iceberg, for a table of a catalog; else `path` is its folder"
    )
    version: int | None = Field(
        None, ge=0, description="of delta, or an iceberg snapshot's id; none = the newest"
    )
    storage_options: StorageConfig = StorageConfig()
    columns: dict[str, str] = Field(description="our column name: the file's column name")
    filters: list[FilterConfig] = Field(
        [], description="rows that do not match all of them are left out, and counted"
    )

    @field_validator("path")
    @classmethod
    def _path_says_something(cls, path: str | list[str] | None) -> str | list[str] | None:
        if path is not None and (not path or not all(paths_of(path))):
            raise ValueError("must not be empty")
        if any(_PASSWORD.search(one) for one in paths_of(path)):
            raise ValueError(
                "a URL with a password is not for configs; keys come from the store's "
                "own environment variables"
            )
        return path

    @field_validator("delimiter")
    @classmethod
    def _delimiter_fits(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and len(delimiter.encode()) > 4:
            raise ValueError("must have 4 bytes at most")
        return delimiter

    @model_validator(mode="after")
    def _maps_what_is_needed(self) -> Self:
        missing = [name for name in self.required if name not in self.columns]
        if missing:
            raise ValueError(
                f"columns must map {', '.join(self.required)}; missing: {', '.join(missing)}"
            )
        return self

    @model_validator(mode="after")
    def _says_where_its_rows_are(self) -> Self:
        for section in ("sql", "iceberg"):
            if getattr(self, section) is not None and self.format != section:
                raise ValueError(f"`{section}` is for format {section}, not {self.format}")
        if self.format == "sql":
            if self.sql is None or self.path is not None:
                raise ValueError("format sql needs `sql` (url_env, and table or query), not `path`")
        elif self.iceberg is not None:
            if self.path is not None:
                raise ValueError("give one of `path` and `iceberg`")
        elif self.path is None:
            raise ValueError(f"format {self.format} needs `path`")
        if self.format in ("delta", "iceberg") and isinstance(self.path, list):
            raise ValueError(f"format {self.format} reads one table: `path` must be one folder")
        if self.version is not None and self.format not in ("delta", "iceberg"):
            raise ValueError("`version` is for formats delta and iceberg")
        if self.package is not None and any(map(is_url, paths_of(self.path))):
            raise ValueError("a `path` in a `package` is no URL")
        if self.package is not None and self.format not in ("csv", "tsv", "jsonl", "parquet"):
            raise ValueError(f"`package` holds files, not format {self.format}")
        return self

    @model_validator(mode="after")
    def _text_settings_are_for_text(self) -> Self:
        if self.format not in ("csv", "tsv"):
            for name in ("delimiter", "quote", "names"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is for formats csv and tsv, not {self.format}")
        if self.format not in ("csv", "tsv", "jsonl") and self.compression != "auto":
            raise ValueError(f"`compression` is for csv, tsv and jsonl, not {self.format}")
        if self.names and len(set(self.names)) < len(self.names):
            raise ValueError("`names` must differ from each other")
        return self


def paths_of(path: str | list[str] | None) -> list[str]:
    """`path` of a table as the list that it may be."""
    return [path] if isinstance(path, str) else path or []


def is_url(path: str) -> bool:
    return "://" in path
