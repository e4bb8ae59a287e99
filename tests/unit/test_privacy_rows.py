"""What rows lose as they are read: ids, columns, erased users; and the retention window."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pytest

from ingestion.errors import IngestError
from ingestion.privacy.erased import Erased, read_erased, remember_erased
from ingestion.privacy.pseudonyms import pseudonym
from ingestion.privacy.raw_rows import protect
from ingestion.privacy.rules import privacy_rules
from ingestion.privacy.settings import PrivacyConfig
from ingestion.reading.raw import RAW_LINE, RAW_MALFORMED, RAW_POSITION, RawTable
from ingestion.sources import EventsSource, SourceConfig
from recommender.schema import POSITION, TIMESTAMP

KEY = "a key of the tests alone, 1"
NOBODY = Erased()
ROWS = pa.table(
    {
        "who": ["u1", " u1 ", "u2", " ", None],
        "item": ["i1", "i2", "i3", "i4", None],
        "time": ["1", "2", "3", "4", None],
        "phone": ["p1", "p2", "p3", "p4", None],
        RAW_POSITION: pa.array(range(5), pa.int64()),
        RAW_LINE: [None, None, None, None, "u1,i9,a line of every column"],
        RAW_MALFORMED: [None, "bad value", None, None, "malformed line: missing columns"],
    }
)


@pytest.fixture
def connection() -> Iterator[Any]:
    opened = ibis.duckdb.connect()
    yield opened
    opened.disconnect()


def raw_table() -> RawTable:
    source = EventsSource(
        path="events.csv",
        format="csv",
        columns={"user_id": "who", "item_id": "item", "timestamp": "time"},
    )
    return RawTable("events", source, "raw_events", ["who", "item", "time", "phone"])


def protected(
    connection: Any, config: PrivacyConfig, erased: Erased = NOBODY
) -> tuple[RawTable, list[dict[str, Any]]]:
    rows = load(connection, "raw_events", ROWS)
    raw, changed = protect(raw_table(), rows, config, erased, keeper(connection))
    return raw, changed.order_by(RAW_POSITION).to_pyarrow().to_pylist()


def test_nothing_configured_changes_nothing(connection: Any) -> None:
    raw, rows = protected(connection, PrivacyConfig())
    assert raw == raw_table()
    assert rows == ROWS.to_pylist()


def test_no_raw_id_is_left_with_a_key(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    _, rows = protected(connection, PrivacyConfig(user_key_env="SOME_KEY"))
    one, two = (pseudonym(user, KEY.encode()) for user in ("u1", "u2"))
    assert [row["who"] for row in rows] == [one, one, two, "", None]
    assert [row["item"] for row in rows] == ROWS["item"].to_pylist()
    assert "u1" not in str(rows)


def test_a_number_is_its_digits(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    numbers = ROWS.set_column(0, "who", pa.array([17, 17, 18, None, None], pa.int64()))
    rows = load(connection, "raw_events", numbers)
    config = PrivacyConfig(user_key_env="SOME_KEY")
    _, changed = protect(raw_table(), rows, config, NOBODY, keeper(connection))
    found = changed.order_by(RAW_POSITION).to_pyarrow()["who"].to_pylist()
    assert found[1:4] == [*(pseudonym(user, KEY.encode()) for user in ("17", "18")), None]


def test_dropped_columns_go_no_further(connection: Any) -> None:
    raw, rows = protected(
        connection, PrivacyConfig(drop_columns={"events": ["phone"], "items": ["other"]})
    )
    assert raw.columns == ["who", "item", "time"]
    assert all("phone" not in row for row in rows)
    assert rows[4][RAW_LINE] is None
    assert [row["who"] for row in rows[:3]] == ["u1", " u1 ", "u2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("who", r"'who', which source\.events\.columns\.user_id uses: set source\.privacy\.user"),
        ("time", r"columns\.timestamp uses: take it out"),
        ("fone", r"'fone', and the files have no such column; they have who, item, time, phone"),
    ],
)
def test_a_column_that_cannot_be_dropped_is_named(name: str, message: str, connection: Any) -> None:
    with pytest.raises(IngestError, match=message):
        protected(connection, PrivacyConfig(drop_columns={"events": [name]}))


@pytest.mark.parametrize("key", [None, KEY])
def test_of_an_erased_user_a_row_has_its_place_alone(
    key: str | None, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PrivacyConfig(user_key_env="SOME_KEY" if key else None)
    monkeypatch.setenv("SOME_KEY", key or "")
    remember_erased(tmp_path, ["u1"])
    _, rows = protected(connection, config, read_erased(tmp_path))
    nothing = dict.fromkeys(["who", "item", "time", "phone"])
    for position in (0, 1):  # whatever else is wrong with it
        gone = {RAW_POSITION: position, RAW_LINE: None, RAW_MALFORMED: "erased user"}
        assert rows[position] == nothing | gone
    assert (rows[2]["who"], rows[2]["item"]) == (
        pseudonym("u2", key.encode()) if key else "u2",
        "i3",
    )
    assert rows[3]["item"] == "i4"
    assert "u1" not in str(rows)


def test_marks_tell_nobody_s_id_and_add_up(tmp_path: Path) -> None:
    assert "u1" not in read_erased(tmp_path)
    assert read_erased(tmp_path).fingerprint == ""
    remember_erased(tmp_path, ["u1"])
    first = read_erased(tmp_path)
    remember_erased(tmp_path, [" u2 ", "u1"])
    both = read_erased(tmp_path)
    assert "u1" in first
    assert "u2" not in first
    assert all(user in both for user in ("u1", "u2", " u1"))
    assert len(both.marks) == 2
    assert first.fingerprint != both.fingerprint
    file = tmp_path / "erased.json"
    assert "u1" not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("days", "latest", "dropped"),
    [
        (2.0, None, [0, 1]),
        (0.5, None, [0, 1, 2]),
        (30, None, []),
        (2.0, "2024-01-04T00:00:00", [0]),  # what is beyond `latest` is not the newest
    ],
)
def test_retention_counts_from_the_newest_event(
    days: float, latest: str | None, dropped: list[int], connection: Any
) -> None:
    first = datetime(2024, 1, 1, tzinfo=UTC)
    times = [
        first + timedelta(days=day, seconds=second)
        for day, second in ((0, 0), (1, 0), (3, 0), (3, 43_200), (3, 43_201))
    ]
    events = pa.table(
        {TIMESTAMP: pa.array(times, pa.timestamp("us", "UTC")), POSITION: pa.array(range(5))}
    )
    (rule,) = privacy_rules(configured(days, latest))
    found = rule.drops(load(connection, "usable", events), keeper(connection))
    assert sorted(found.to_pyarrow()[POSITION].to_pylist()) == dropped
    assert not rule.counts_as_rejected


def test_no_window_is_no_rule() -> None:
    assert privacy_rules(configured(None, None)) == []


def configured(days: float | None, latest: str | None) -> SourceConfig:
    table = {"path": "x.csv", "format": "csv"}
    return SourceConfig.model_validate(
        {
            "name": "small",
            "events": table
            | {"columns": {"user_id": "who", "item_id": "item", "timestamp": "time"}},
            "items": table | {"columns": {"item_id": "id", "title": "name"}},
            "privacy": {"retention_days": days},
            "cleaning": {"latest": latest},
        }
    )


def load(connection: Any, name: str, rows: pa.Table) -> ir.Table:
    connection.create_table(name, schema=ibis.Schema.from_pyarrow(rows.schema))
    connection.insert(name, rows)
    return connection.table(name)


def keeper(connection: Any) -> Any:
    def keep(name: str, rows: ir.Table) -> ir.Table:
        return connection.create_table(f"{name}_{uuid.uuid4().hex}", rows)

    return keep
