"""What goes wrong with data and a careless check misses: each is caught, and named.

An export of a month is accepted; then the same export comes again, broken in one way.
"""

import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError, ValidationFailed
from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from ingestion.validation.run import validate
from ingestion.validation.settings import ValidationConfig
from recommender import schema
from recommender.files import read_json
from tests.incident_source import Export, config

LIMITS = ValidationConfig(min_value=1, max_value=5)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the export's snapshot, and `state` where it was accepted."""
    folder = tmp_path_factory.mktemp("accepted")
    ingest(Export().write(folder / "source"), folder / "snapshot")
    report = validate(folder / "snapshot", LIMITS, folder / "report", folder / "state")
    assert report["success"]
    assert "nothing to compare with" in report["drift"]["said"]
    return folder


@pytest.fixture
def again(accepted: Path, tmp_path: Path) -> Any:
    """Ingest and validate a later export of the same source; the failed checks by name."""

    def run(source: SourceConfig) -> dict[str, dict[str, Any]]:
        ingest(source, tmp_path / "snapshot")
        return check(tmp_path / "snapshot")

    def check(snapshot: Path) -> dict[str, dict[str, Any]]:
        shutil.copytree(accepted / "state", tmp_path / "state")
        said = ""
        try:
            validate(snapshot, LIMITS, tmp_path / "report", tmp_path / "state")
        except ValidationFailed as error:
            said = str(error)
        report = read_json(tmp_path / "report" / "validation.json")
        failed = {row["name"]: row for row in report["expectations"] if not row["success"]}
        assert "compared with the snapshot accepted" in report["drift"]["said"]
        critical = [name for name, row in failed.items() if row["severity"] == "critical"]
        assert all(re.search(rf"^  {re.escape(name)} ", said, re.M) for name in critical)
        assert bool(said) == bool(critical)
        return failed

    run.check = check  # type: ignore[attr-defined]
    return run


def test_the_same_again_and_a_day_more_pass(again: Any, tmp_path: Path) -> None:
    export = Export()
    last = export.events[-1]["at"][:10]
    a_day = [row for row in export.events if row["at"].startswith(last)]
    # People come back, to other items and at other times.
    more = [
        row
        | {"at": (datetime.fromisoformat(row["at"]) + timedelta(days=1, seconds=99)).isoformat()}
        | {"item": export.events[7 * place]["item"], "user": export.events[5 * place]["user"]}
        for place, row in enumerate(a_day)
    ]
    export.events += more
    assert again(export.write(tmp_path / "source")) == {}
    assert len(pq.read_table(tmp_path / "snapshot" / "events.parquet")) == len(export.events)


def test_an_empty_file(tmp_path: Path) -> None:
    source = Export().write(tmp_path / "source")
    header = (tmp_path / "source" / "events.csv").read_text().splitlines()[0]
    (tmp_path / "source" / "events.csv").write_text(header + "\n")
    with pytest.raises(IngestError, match=r"events\.csv' has columns .* but no rows"):
        ingest(source, tmp_path / "snapshot")


@pytest.mark.parametrize(
    ("table", "drift"), [("events", "drift.events.volume"), ("items", "drift.items.known_ids")]
)
def test_an_empty_table(accepted: Path, again: Any, tmp_path: Path, table: str, drift: str) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(accepted / "snapshot", snapshot)
    path = schema.table_path(snapshot, table)
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    failed = again.check(snapshot)
    assert failed[f"{table}.rows"]["observed"] == 0
    assert failed[drift]["observed"] == 0


def test_a_missing_column(tmp_path: Path) -> None:
    export = Export()
    for row in export.events:
        del row["user"]
    with pytest.raises(IngestError, match=r"events.*events\.csv.*'user'"):
        ingest(export.write(tmp_path / "source"), tmp_path / "snapshot")


def test_a_column_of_nulls(tmp_path: Path) -> None:
    export = Export()
    for row in export.events:
        row["user"] = ""
    with pytest.raises(IngestError, match=r"missing user_id in column 'user': [\d,]+ rows"):
        ingest(export.write(tmp_path / "source"), tmp_path / "snapshot")


def test_columns_that_no_model_needs_missing_or_null(again: Any, tmp_path: Path) -> None:
    export = Export()
    for row in export.events:
        del row["page"]
    for row in export.items:
        row["maker"] = ""
    failed = again(export.write(tmp_path / "source"))
    assert set(failed) == {"drift.events.columns", "drift.items.nulls"}
    assert "page" in failed["drift.events.columns"]["said"]
    assert "column 'maker': 100.0% empty, 0.0%" in failed["drift.items.nulls"]["said"]


def test_a_time_zone_that_is_off_by_hours(again: Any, tmp_path: Path) -> None:
    export = Export()
    for row in export.events:
        row["at"] = (datetime.fromisoformat(row["at"]) + timedelta(hours=5)).isoformat()
    failed = again(export.write(tmp_path / "source"))
    assert "drift.events.hours" in failed
    assert "if the clock is +5 h; a wrong time zone?" in failed["drift.events.hours"]["said"]


def test_ids_that_became_floats(again: Any, tmp_path: Path) -> None:
    export = Export()
    for row in export.events:
        row["item"] += ".0"
    with pytest.raises(IngestError, match=r"unknown item in column 'item'.*'\d+\.0'"):
        ingest(export.write(tmp_path / "events_only"), tmp_path / "snapshot")
    for row in export.items:
        row["id"] += ".0"
    failed = again(export.write(tmp_path / "source"))
    assert failed["items.item_id.not_float"]["samples"][0] == "500.0"
    assert (
        failed["drift.items.item_id.form"]["said"]
        == "now 100% decimal number, accepted 100% digits"
    )
    assert failed["drift.items.known_ids"]["observed"] == 0


def test_a_day_that_is_another_one_again(again: Any, tmp_path: Path) -> None:
    export = Export()
    copied = [row for row in export.events if row["at"].startswith("2024-03-10")]
    export.events = [row for row in export.events if not row["at"].startswith("2024-03-11")]
    export.events += [row | {"at": row["at"].replace("03-10", "03-11")} for row in copied]
    failed = again(export.write(tmp_path / "source"))
    assert failed["events.days.repeated"]["said"] == "2024-03-11 is a copy of 2024-03-10"


def test_a_day_in_quarantine_is_named_and_the_others_go_on(again: Any, tmp_path: Path) -> None:
    export = Export()
    bad = [row for row in export.events if row["at"].startswith("2024-03-11")]
    export.events = [row for row in export.events if row not in bad[9:]]
    source = export.write(tmp_path / "source", quarantine={"by": "day", "min_of_median": 0.3})
    failed = again(source)
    assert set(failed) == {"source.quarantine"}
    assert failed["source.quarantine"]["severity"] == "warning"
    reason = failed["source.quarantine"]["said"]
    assert reason.startswith("quarantined 2024-03-11: 9 events, 0.04")
    summary = read_json(tmp_path / "snapshot" / "snapshot.json")
    assert summary["rejected"]["events"] == {reason: 9}
    assert summary["kept"]["events"] == len(export.events) - 9
    rejects = pq.read_table(tmp_path / "snapshot" / "rejects.parquet").to_pylist()
    assert {row["reason"] for row in rejects} == {reason}


def test_a_day_that_was_delivered_twice(again: Any, tmp_path: Path) -> None:
    """As it was: its rows are dropped, and counted. With other times: its volume tells."""
    export = Export()
    twice = [row for row in export.events if row["at"].startswith("2024-03-10")]
    later = [row for row in export.events if row["at"].startswith("2024-03-20")]
    export.events += twice
    export.events += [row | {"at": row["at"].replace("+00:00", ".5+00:00")} for row in later]
    failed = again(export.write(tmp_path / "source"))
    assert set(failed) == {"source.events.duplicates", "drift.events.days"}
    assert f"{len(twice)} of " in failed["source.events.duplicates"]["said"]
    assert failed["source.events.duplicates"]["severity"] == "warning"
    assert failed["drift.events.days"]["said"].startswith(f"2024-03-20: {2 * len(later)} events")


def test_a_file_that_ends_in_the_middle(again: Any, tmp_path: Path) -> None:
    source = Export().write(tmp_path / "source")
    path = tmp_path / "source" / "events.csv"
    content = path.read_bytes()
    cut = content.rindex(b"\n", 0, int(len(content) * 0.8))
    path.write_bytes(content[: cut + 20])
    failed = again(source)
    assert set(failed) >= {"source.complete", "drift.events.freshness"}
    assert "events.csv' is cut" in failed["source.complete"]["said"]
    assert "is a file cut or missing?" in failed["drift.events.freshness"]["said"]


def test_the_first_of_two_files_ends_in_the_middle(again: Any, tmp_path: Path) -> None:
    source = Export().write(tmp_path / "source")
    path = tmp_path / "source" / "events.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    (tmp_path / "source" / "events-2.csv").write_bytes(lines[0] + b"".join(lines[middle:]))
    path.write_bytes(b"".join(lines[:middle])[:-25])
    both = {"path": [str(path), str(tmp_path / "source" / "events-2.csv")]}
    source = source.model_copy(update={"events": source.events.model_copy(update=both)})
    assert "events.csv' is cut" in again(source)["source.complete"]["said"]


def test_two_encodings_in_one_file(again: Any, tmp_path: Path) -> None:
    source = Export().write(tmp_path / "source")
    path = tmp_path / "source" / "items.csv"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_bytes("".join(lines[:60]).encode("utf-8") + "".join(lines[60:]).encode("latin-1"))
    with pytest.raises(IngestError, match=r"items\.csv', line 6\d is not utf-8"):
        ingest(source, tmp_path / "snapshot")
    failed = again(config(tmp_path / "source", encoding="latin-1"))
    assert failed["items.title.encoding"]["unexpected_count"] > 20
    assert any("cafÃ©" in sample for sample in failed["items.title.encoding"]["samples"])
