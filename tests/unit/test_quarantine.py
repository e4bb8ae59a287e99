"""Partitions that fail are named and left out; too many of them stop the run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.sources import SourceConfig
from ingestion.validation.quarantine import quarantine_rules


def source(**quarantine: Any) -> SourceConfig:
    events = {"user_id": "u", "item_id": "i", "timestamp": "t"}
    return SourceConfig.model_validate(
        {
            "name": "shop",
            "events": {"path": "e.csv", "format": "csv", "columns": events},
            "items": {"path": "i.csv", "format": "csv", "columns": {"item_id": "i", "title": "t"}},
            "quarantine": quarantine,
        }
    )


@pytest.fixture
def usable(tmp_path: Path) -> Any:
    """Ten days of 20 events; the 5th has 2, the 7th is a copy of the 6th."""
    rows: list[dict[str, Any]] = []
    for day in range(1, 11):
        like = 6 if day == 7 else day
        for place in range(2 if day == 5 else 20):
            rows.append(
                {
                    "user_id": f"u{(place + like) % 9}",
                    "item_id": f"i{place * like}",
                    "event_type": "view",
                    "timestamp": datetime(2024, 1, day, place, tzinfo=UTC),
                    "position": len(rows),
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    return ibis.duckdb.connect().read_parquet(tmp_path / "events.parquet")


def dropped(usable: Any, config: SourceConfig, ranges: Any = None) -> dict[str, list[int]]:
    (rule,) = quarantine_rules(config, ranges)
    assert not rule.counts_as_rejected
    found: dict[str, list[int]] = {}
    rows = rule.drops(usable, lambda name, rows: rows).order_by("position")
    for row in rows.to_pyarrow().to_pylist():
        found.setdefault(row["reason"], []).append(row["position"])
    return found


def test_it_is_off_by_default() -> None:
    assert quarantine_rules(source()) == []


def test_a_thin_day_and_a_copied_one(usable: Any) -> None:
    assert dropped(usable, source(by="day", min_of_median=0.5)) == {
        "quarantined 2024-01-05: 2 events, 0.1 of the median": [80, 81],
        "quarantined 2024-01-07: the same users and items as 2024-01-06": list(range(102, 122)),
    }
    assert dropped(usable, source(by="day", copies=False)) == {}


def test_days_of_a_few_events_are_alike_by_chance(usable: Any) -> None:
    few = usable.filter(usable.timestamp.hour() < 9)
    assert dropped(few, source(by="day")) == {}


def test_partitions_of_the_files(usable: Any) -> None:
    ranges = {"dt=1": [(0, 20)], "dt=2": [(20, 22)], "rest": [(22, 500)]}
    found = dropped(usable, source(by="partition", min_events=5, max_share=0.5), ranges)
    assert found == {"quarantined dt=2: 2 events, not 5": [20, 21]}
    with pytest.raises(IngestError, match=r"set source\.incremental\.partition"):
        quarantine_rules(source(by="partition"))


def test_too_many_failing_partitions_stop_the_run(usable: Any) -> None:
    config = source(by="day", min_of_median=0.5, max_share=0.1)
    with pytest.raises(IngestError, match=r"2 of 10 partitions fail .*10%[^q]*quarantined 2024"):
        dropped(usable, config)
