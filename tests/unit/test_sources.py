"""The source section: what it accepts, where it finds files."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ingestion.errors import IngestError
from ingestion.sources import EventsSource, ItemsSource, SourceConfig, locate, source_fingerprint


def config(folder: Path, **events: Any) -> SourceConfig:
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t"}
    return SourceConfig.model_validate(
        {
            "name": "small",
            "events": {"path": f"{folder}/e*.csv", "format": "csv", "columns": columns} | events,
            "items": {
                "path": f"{folder}/items.csv",
                "format": "csv",
                "columns": {"item_id": "i", "title": "name"},
            },
        }
    )


def test_unmapped_required_columns_are_named() -> None:
    with pytest.raises(ValidationError, match="missing: timestamp"):
        EventsSource.model_validate(
            {"path": "x", "format": "csv", "columns": {"user_id": "u", "item_id": "i"}}
        )


def test_a_mistyped_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="time_units"):
        config(tmp_path, time_units="s")


@pytest.mark.parametrize("template", ["no column", "{title", "{}"])
def test_a_text_template_names_columns(template: str) -> None:
    columns = {"item_id": "i", "title": "t"}
    with pytest.raises(ValidationError, match="text"):
        ItemsSource(path="x", format="csv", columns=columns, text=template)


def test_a_pattern_finds_files_in_order(tmp_path: Path) -> None:
    for name in ("e2.csv", "e1.csv", "other.csv"):
        (tmp_path / name).write_text("u,i,t\n")
    found = locate("events", config(tmp_path).events)
    assert [path.name for path in found] == ["e1.csv", "e2.csv"]


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"no file matches .*correct source\.events\.path"):
        locate("events", config(tmp_path).events)


def test_a_file_inside_a_package_is_found_without_importing_it() -> None:
    source = EventsSource(
        package="pyarrow",
        path="pyarrow/__init__.py",
        format="csv",
        columns={"user_id": "u", "item_id": "i", "timestamp": "t"},
    )
    assert locate("events", source)[0].name == "__init__.py"


def test_a_missing_package_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"'no-such-package' is not installed.*drop `package`"):
        locate("events", config(tmp_path, package="no-such-package").events)


def test_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("i,name\n1,One\n")
    (tmp_path / "e1.csv").write_text("u,i,t\n1,1,1\n")
    before = source_fingerprint(config(tmp_path))
    assert source_fingerprint(config(tmp_path)) == before
    (tmp_path / "e1.csv").write_text("u,i,t\n1,1,2\n")
    assert source_fingerprint(config(tmp_path)) != before
