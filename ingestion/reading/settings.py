"""Parts of the `source` config section: SQL, lakes, object stores, filters and downloads.

None of them takes a secret. A database's URL is in an environment variable that the config names;
keys of an object store are where its clients look for them (AWS_ACCESS_KEY_ID and so on).
"""

import os
from pathlib import PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from recommender.config import Section

Scalar = bool | int | float | str
_ENVIRONMENT_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class SqlConfig(Section):
    """A table or a query of a PostgreSQL database; rows are streamed, whatever their number."""

    url_env: str = Field(
        pattern=_ENVIRONMENT_VARIABLE,
        description="environment variable with postgresql://user:password@host:port/database; "
        "the URL itself is a secret and never in a config",
    )
    table: str | None = Field(
        None, min_length=1, description="table or view, with its schema where need be: shop.events"
    )
    query: str | None = Field(None, min_length=1, description="one SELECT, instead of a table")
    order_by: list[str] = Field(
        [],
        description="columns that order the rows, such as the primary key; without it their "
        "positions, and which of two equal rows is the first, may differ from run to run",
    )

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give one of `table` and `query`")
        return self


class IcebergConfig(Section):
    """An Iceberg table of a catalog."""

    catalog: str = Field(
        min_length=1,
        description="its name; tokens and keys come from PyIceberg's own environment variables, "
        "PYICEBERG_CATALOG__<NAME>__TOKEN and the like, or ~/.pyiceberg.yaml",
    )
    table: str = Field(pattern=r"^[^.]+(\.[^.]+)+$", description="namespace.table")
    properties: dict[str, str] = Field(
        {}, description="of the catalog: {type: rest, uri: https://...}; no secrets"
    )

    @field_validator("properties")
    @classmethod
    def _no_secrets(cls, properties: dict[str, str]) -> dict[str, str]:
        words = ("token", "credential", "secret", "password", "key-id")
        if secret := [name for name in properties if any(word in name.lower() for word in words)]:
            raise ValueError(
                f"{', '.join(secret)}: secrets are not for configs; PyIceberg reads them from "
                "PYICEBERG_CATALOG__<NAME>__... in the environment"
            )
        return properties


class StorageConfig(Section):
    """Of an object store; its keys come from the environment, as the store's own clients do it."""

    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^@]+$",
        description="of an S3-compatible server; default AWS_ENDPOINT_URL, else AWS",
    )
    region: str | None = Field(None, min_length=1, description="of S3; default AWS_DEFAULT_REGION")
    anon: bool = Field(False, description="a public bucket: no keys")

    def endpoint(self) -> str | None:
        """Of S3, as its own clients find it; not all that read here look into the environment."""
        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        return self.endpoint_url or next(filter(None, map(os.environ.get, names)), None)


class FilterConfig(Section):
    """Rows to read; the others are counted as filtered, under this filter's name.

    A text is compared as text, a number as a number, whatever the file's type for the column;
    a row whose value is missing, or is no number where one is asked for, does not match.
    """

    column: str = Field(min_length=1, description="the file's name of it")
    equals: Scalar | None = None
    one_of: list[Scalar] | None = Field(None, min_length=1)
    at_least: float | str | None = Field(None, description="a text, such as 2024-01-01, as text")
    at_most: float | str | None = Field(None, description="a text, such as 2024-12-31, as text")
    not_null: bool | None = Field(None, description="true: neither missing nor blank")

    @field_validator("equals", mode="before")
    @classmethod
    def _one_value(cls, value: Any) -> Any:
        if isinstance(value, list | dict):
            raise ValueError("is one value; one_of takes several")
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        tests = [self.equals, self.one_of, self.not_null]
        bounds = [limit for limit in (self.at_least, self.at_most) if limit is not None]
        asked = sum(test is not None for test in tests) + bool(bounds)
        if asked != 1:
            raise ValueError(
                "give one of equals, one_of, not_null, or at_least and at_most (either, or both)"
            )
        if len({isinstance(limit, str) for limit in bounds}) > 1:
            raise ValueError("at_least and at_most must both be numbers, or both texts")
        if self.not_null is False:
            raise ValueError("not_null: false asks for nothing; drop the filter")
        return self

    @property
    def name(self) -> str:
        """As the accounting shows it: "rating >= 4"."""
        if self.equals is not None:
            return f"{self.column} = {_shown(self.equals)}"
        if self.one_of is not None:
            return f"{self.column} in {', '.join(map(_shown, self.one_of))}"
        if self.not_null:
            return f"{self.column} is not null"
        limits = (("at_least", ">="), ("at_most", "<="))
        return " and ".join(
            f"{self.column} {sign} {_shown(limit)}"
            for bound, sign in limits
            if (limit := getattr(self, bound)) is not None
        )


def _shown(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


class DownloadFile(Section):
    """One file of a download; an archive is unpacked."""

    url: str = Field(pattern=r"^https?://[^/@]+/.*[^/]$", description="where it lies")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(
        None, pattern=r"^[0-9a-f]{32}$", description="where the publisher gives no sha256"
    )
    members: list[str] = Field(
        [], description="what is unpacked of a zip or tar archive, by the names in it"
    )

    @property
    def filename(self) -> str:
        return PurePosixPath(unquote(urlsplit(self.url).path)).name

    @model_validator(mode="after")
    def _archive_has_members(self) -> Self:
        archive = self.filename.endswith(ARCHIVES)
        if archive and not self.members:
            raise ValueError(f"{self.filename} is an archive: members must say what to unpack")
        if self.members and not archive:
            raise ValueError(f"{self.filename} is no archive ({', '.join(ARCHIVES)}): drop members")
        unsafe = [m for m in self.members if m.startswith("/") or ".." in PurePosixPath(m).parts]
        if unsafe:
            raise ValueError(f"members must stay inside the folder: {', '.join(unsafe)}")
        return self


class DownloadConfig(Section):
    """Files that are fetched when they are not there yet, into data/<name of the source>/."""

    page: str = Field(
        pattern=r"^https?://", description="where a person finds the files, and their terms"
    )
    files: list[DownloadFile] = Field(min_length=1)
