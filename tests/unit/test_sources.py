"""The source section: what it accepts, and what it says of what it does not."""

from typing import Any

import pytest
from pydantic import ValidationError

from ingestion.sources import EventsSource, ItemsSource, SourceConfig

COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": "t"}
SQL = {"url_env": "SHOP_DB", "table": "shop.events"}


def events(**given: Any) -> EventsSource:
    return EventsSource.model_validate(
        {"path": "e.csv", "format": "csv", "columns": COLUMNS} | given
    )


def config(**given: Any) -> SourceConfig:
    items = {"path": "i.csv", "format": "csv", "columns": {"item_id": "i", "title": "name"}}
    table = {"path": "e.csv", "format": "csv", "columns": COLUMNS}
    return SourceConfig.model_validate({"name": "small", "events": table, "items": items} | given)


def test_what_is_written_is_what_is_read_back() -> None:
    """Kubeflow gets the section as JSON without nulls."""
    full = config(
        events={
            "format": "sql",
            "sql": SQL | {"order_by": ["id"]},
            "columns": COLUMNS,
            "time_format": "%d.%m.%Y %H:%M",
            "filters": [{"column": "kind", "one_of": ["view", 3]}, {"column": "n", "at_least": 2}],
            "event_weights": {"buy": 5},
        },
        download={"page": "https://host/page", "files": [{"url": "https://host/a.csv"}]},
    )
    written = full.model_dump(mode="json", exclude_none=True)
    assert SourceConfig.model_validate(written) == full


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": {"user_id": "u", "item_id": "i"}}, "missing: timestamp"),
        ({"time_units": "s"}, "time_units"),
        ({"path": None}, "format csv needs `path`"),
        ({"path": []}, "must not be empty"),
        ({"path": ["a.csv", ""]}, "must not be empty"),
        ({"path": "ftp://me:hush@host/e.csv"}, "a URL with a password is not for configs"),
        ({"sql": SQL}, "`sql` is for format sql, not csv"),
        ({"format": "sql", "sql": SQL}, "not `path`"),
        ({"format": "sql", "path": None}, "format sql needs `sql`"),
        ({"format": "sql", "path": None, "sql": {"url_env": "X"}}, "one of `table` and `query`"),
        (
            {
                "format": "sql",
                "path": None,
                "sql": {"url_env": "postgresql://u:p@h/d", "table": "t"},
            },
            "String should match pattern",
        ),
        ({"format": "delta", "path": ["a", "b"]}, "one folder"),
        ({"format": "iceberg", "path": None}, "format iceberg needs `path`"),
        (
            {"format": "iceberg", "iceberg": {"catalog": "lake", "table": "shop.events"}},
            "one of `path` and `iceberg`",
        ),
        ({"version": 3}, "`version` is for formats delta and iceberg"),
        ({"format": "parquet", "delimiter": ","}, "`delimiter` is for formats csv and tsv"),
        ({"format": "parquet", "names": ["a"]}, "`names` is for formats csv and tsv"),
        ({"format": "parquet", "compression": "gzip"}, "`compression` is for csv, tsv and jsonl"),
        ({"delimiter": "::::€"}, "4 bytes at most"),
        ({"names": ["a", "b", "a"]}, "`names` must differ"),
        ({"package": "recbole", "path": "s3://bucket/e.csv"}, "no URL"),
        ({"package": "recbole", "format": "delta"}, "`package` holds files, not format delta"),
        ({"storage_options": {"secret": "x"}}, "secret"),
        ({"storage_options": {"endpoint_url": "http://user:pw@host"}}, "should match pattern"),
        ({"time_format": "%Y-%Q"}, "unknown: %Q; allowed: "),
        ({"time_format": "yyyy-MM-dd"}, "must be a pattern such as '%Y-%m-%d %H:%M:%S'"),
        ({"time_format": "%Y-%m-%d %"}, "unknown: %;"),
        ({"time_format": "%H:%M"}, "must have a year, %Y or %y"),
        ({"time_format": "%Y", "time_unit": "ms"}, "drop one of them"),
        ({"event_weights": {"buy": float("inf")}}, "must be finite numbers: buy"),
        ({"filters": [{"column": "a", "equals": [1]}]}, "one value; one_of takes several"),
        ({"filters": [{"column": "a"}]}, "give one of equals, one_of, not_null"),
        ({"filters": [{"column": "a", "equals": 1, "at_most": 3}]}, "give one of equals"),
        ({"filters": [{"column": "a", "at_least": "x", "at_most": 3}]}, "both be numbers"),
        ({"filters": [{"column": "a", "not_null": False}]}, "drop the filter"),
    ],
)
def test_what_is_not_accepted_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        events(**given)


def test_secrets_of_a_catalog_are_not_for_configs() -> None:
    table = {"catalog": "lake", "table": "shop.events", "properties": {"token": "abc"}}
    with pytest.raises(ValidationError, match="token: secrets are not for configs; PyIceberg"):
        events(format="iceberg", path=None, iceberg=table)


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ({"equals": True}, "c = true"),
        ({"equals": "view"}, "c = view"),
        ({"one_of": ["view", 3]}, "c in view, 3"),
        ({"at_least": 4}, "c >= 4"),
        ({"at_least": 0, "at_most": 4.5}, "c >= 0 and c <= 4.5"),
        ({"at_most": "2024-12-31"}, "c <= 2024-12-31"),
        ({"not_null": True}, "c is not null"),
    ],
)
def test_a_filter_has_a_name_for_the_accounting(test: dict[str, Any], name: str) -> None:
    assert events(filters=[{"column": "c", **test}]).filters[0].name == name


@pytest.mark.parametrize("template", ["no column", "{title", "{}"])
def test_a_text_template_names_columns(template: str) -> None:
    columns = {"item_id": "i", "title": "t"}
    with pytest.raises(ValidationError, match="text"):
        ItemsSource(path="x", format="csv", columns=columns, text=template)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"url": "ftp://host/a.zip"}, "should match pattern"),
        ({"url": "https://host/a.zip"}, "a.zip is an archive: members must say"),
        ({"url": "https://host/a.csv", "members": ["b"]}, "a.csv is no archive"),
        ({"url": "https://host/a.zip", "members": ["../b"]}, "must stay inside the folder: ../b"),
        ({"url": "https://host/a.zip", "members": ["/b"]}, "must stay inside the folder: /b"),
        ({"url": "https://host/a.csv", "md5": "12"}, "should match pattern"),
    ],
)
def test_downloads_that_cannot_be(file: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(download={"page": "https://host/page", "files": [file]})


def test_one_store_has_one_client() -> None:
    items = {"format": "csv", "columns": {"item_id": "i", "title": "t"}, "path": "s3://a/i.csv"}
    table = {"format": "csv", "columns": COLUMNS, "path": "s3://b/e.csv"}
    storage = {"storage_options": {"anon": True}}
    with pytest.raises(
        ValidationError, match="events and items must have the same storage_options"
    ):
        config(items=items, events=table | storage)
    config(items=items | storage, events=table | storage)


def test_the_name_as_a_folder() -> None:
    assert config(name="Amazon Reviews 2023: All_Beauty").slug == "amazon-reviews-2023-all-beauty"
    assert config(name="数据 2").slug == "数据-2"
    assert config(name="!").slug == "source"
