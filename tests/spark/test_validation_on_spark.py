"""The same snapshot, validated on DuckDB and on Spark: the same verdicts, numbers and samples."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ingestion.errors import ValidationFailed
from ingestion.ingest import ingest
from ingestion.validation.run import validate
from ingestion.validation.settings import ValidationConfig
from recommender.files import read_json, write_json
from tests.incident_source import Export

NOW = datetime(2024, 6, 1, tzinfo=UTC)
LIMITS = ValidationConfig(as_of=NOW, min_value=2, max_value=5, min_text_length=15)


def export() -> Export:
    broken = Export()
    broken.items[3]["title"] += " write to jane.doe@example.com"
    broken.items[4]["title"] += " or call +44 20 7946 0958"
    broken.items[5]["maker"] = "4111 1111 1111 1111"
    broken.items[6]["maker"] = "4111 1111 1111 1112"  # no card's: the last digit does not check
    broken.items[7]["title"] = "Blue cafÃ© table"
    broken.items[8]["id"] = "508.0"
    broken.events = [row for row in broken.events if row["item"] != "508"]
    copied = [row for row in broken.events if row["at"].startswith("2024-03-10")]
    broken.events = [row for row in broken.events if not row["at"].startswith("2024-03-11")]
    broken.events += [row | {"at": row["at"].replace("03-10", "03-11")} for row in copied]
    return broken


def verdicts(snapshot: Path, out: Path, state: Path) -> dict[str, Any]:
    with pytest.raises(ValidationFailed):
        validate(snapshot, LIMITS, out, state)
    return {row["name"]: row for row in read_json(out / "validation.json")["expectations"]}


def test_both_engines_give_the_same_verdicts(tmp_path: Path) -> None:
    ingest(export().write(tmp_path / "source"), tmp_path / "duckdb")
    shutil.copytree(tmp_path / "duckdb", tmp_path / "spark")
    summary = read_json(tmp_path / "spark" / "snapshot.json")
    summary["source"]["engine"] = {"name": "spark", "spark_master": "local[2]"}
    write_json(tmp_path / "spark" / "snapshot.json", summary)
    found = {
        name: verdicts(tmp_path / name, tmp_path / f"{name}-report", tmp_path / f"{name}-state")
        for name in ("duckdb", "spark")
    }
    failed = {name for name, row in found["duckdb"].items() if not row["success"]}
    assert failed == {
        "events.days.repeated",
        "events.value.range",
        "items.item_id.not_float",
        "items.no_card",
        "items.no_email",
        "items.no_phone",
        "items.text.length",
        "items.text.encoding",
        "items.title.encoding",
    }
    assert found["duckdb"].keys() == found["spark"].keys()
    for name, row in found["duckdb"].items():
        other = found["spark"][name]
        if "type" in name:  # timestamp('UTC') here, timestamp there
            row, other = row | {"observed": ""}, other | {"observed": ""}
        if isinstance(row["observed"], float):
            assert other["observed"] == pytest.approx(row["observed"]), name
            row, other = row | {"observed": ""}, other | {"observed": ""}
        assert other == row, name
    profiles = [read_json(tmp_path / f"{name}-report" / "profile.json") for name in found]
    for profile in profiles:  # their hashes are no-one else's
        profile |= {"engine": "", "ids": {}, "oldest": "", "newest": ""}
        profile["days"] = {day: events for day, (events, _) in profile["days"].items()}
    assert profiles[0] == profiles[1]
