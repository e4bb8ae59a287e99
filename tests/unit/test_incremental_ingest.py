"""However the days of a source come in, its events are those of all of them at once."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.engines.open import open_engine
from ingestion.errors import IngestError
from ingestion.incremental.increments import open_ledger, read_increments
from ingestion.ingest import ingest
from ingestion.reading.landing import source_files
from ingestion.sources import SourceConfig
from recommender import schema
from recommender.files import read_json, sha256_file

# Rows of a day: of one user, broken, of an unknown item, ones that other days have too.
ROWS = ["u{day},a,{day}00", "u1,b,{day}50", "u2,c,7", "broken", "u2,nowhere,{day}10", "u1,a,5"]
KEY = "a key of the tests alone, 1"


class Killed(BaseException):
    """Nothing that anybody handles."""


def config(folder: Path, **source: Any) -> SourceConfig:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    events = {"path": str(folder / "events"), "format": "csv", "columns": columns}
    columns = {"item_id": "id", "title": "name"}
    items = {"path": str(folder / "items.csv"), "format": "csv", "columns": columns}
    content = {"name": "days", "events": events, "items": items, "max_reject_fraction": 1.0}
    days = {"partition": "day=(?P<partition>[0-9]+)"}
    return SourceConfig.model_validate(content | {"incremental": days} | source)


def deliver(folder: Path, day: int, lines: list[str]) -> None:
    target = folder / "events" / f"day={day}" / "part.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(line.format(day=day) + "\n" for line in lines)
    target.write_text(f"user,item,time\n{rows}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("id,name\na,Alpha\nb,Beta\nc,Gamma\n")
    return tmp_path


def hashes(snapshot: Path) -> dict[str, str]:
    tables = [*schema.TABLES, "rejects"]
    return {table: sha256_file(schema.table_path(snapshot, table)) for table in tables}


def read(folder: Path, state: Path, work: Path, killed_at: int | None = None) -> list[Any]:
    """Every row of the events, and where it is from; killed when so many partitions are read."""
    source = config(folder)
    work.mkdir(parents=True)
    engine = open_engine(source.engine, work)
    reads = itertools.count()

    def read_some(files: list[Any]) -> Any:
        if next(reads) == killed_at:
            raise Killed
        raw = engine.read("events", source.events, files)
        return raw, engine.connection.table(raw.name)

    try:
        with open_ledger(source, state, None) as ledger:  # type: ignore[union-attr]
            files = source_files("events", source.events, work, "duckdb")
            found = read_increments(engine, source, files, ledger, work, read_some)
            rows: pa.Table = found.rows.order_by("__position").to_pyarrow()
        places = [found.raw.place(position) for position in range(found.raw.rows)]
        return [(*row.values(), place) for row, place in zip(rows.to_pylist(), places, strict=True)]
    finally:
        engine.close()


DELIVERY = st.tuples(st.integers(1, 3), st.sets(st.sampled_from(ROWS), min_size=1, max_size=3))
RUN = st.integers(0, 2) | st.none()


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(DELIVERY | RUN, min_size=3, max_size=8))
def test_deliveries_redeliveries_and_kills_end_as_one_full_reading(
    tmp_path_factory: pytest.TempPathFactory, happens: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("days")
    deliver(folder, 2, ROWS[:1])
    for number, event in enumerate(happens):
        if isinstance(event, tuple):
            deliver(folder, event[0], sorted(event[1]))
        else:
            with contextlib.suppress(Killed):
                read(folder, folder / "state", folder / f"work-{number}", killed_at=event)
    increments = read(folder, folder / "state", folder / "work")
    assert increments == read(folder, folder / "fresh", folder / "full")
    files = (folder / "events").rglob("*.csv")
    assert len(increments) == sum(len(file.read_text().splitlines()) - 1 for file in files)
    entries = read_json(folder / "state" / "ledger.json")["partitions"].values()
    kept = {path.name for path in (folder / "state" / "increments").iterdir()}
    assert kept == {entry["file"] for entry in entries}


def test_a_snapshot_by_days_is_that_of_all_at_once(folder: Path) -> None:
    state = folder / "state"
    deliver(folder, 1, ROWS)
    first = ingest(config(folder), folder / "snapshot", state=state)
    assert first["incremental"]["read"] == ["1"]
    deliver(folder, 3, ROWS[1:])

    def kill(message: str) -> None:
        if message == "write events":
            raise Killed

    with pytest.raises(Killed):
        ingest(config(folder), folder / "snapshot", kill, state=state)
    deliver(folder, 2, ROWS[:2])
    deliver(folder, 1, ROWS[:-1])  # again, corrected
    last = ingest(config(folder), folder / "snapshot", state=state)
    assert last["incremental"] == {
        "partitions": 3,
        "read": ["1", "2"],
        "watermark": "1970-01-01T00:05:50+00:00",
    }
    full = ingest(config(folder), folder / "full")
    assert hashes(folder / "snapshot") == hashes(folder / "full")
    same = last.keys() - {"incremental"}
    assert {key: last[key] for key in same} == {key: full[key] for key in same}
    assert last["read"]["events"] == last["kept"]["events"] + sum(
        last["rejected"]["events"].values()
    )


def test_an_event_is_late_by_what_the_days_before_had(folder: Path) -> None:
    day = 86_400
    deliver(folder, 1, [f"u1,a,{5 * day}", f"u1,b,{1 * day}"])  # the first has nothing before it
    deliver(folder, 2, [f"u1,c,{3 * day}", f"u2,c,{3 * day - 1}", f"u2,a,{9 * day}"])
    source = config(folder, cleaning={"max_lateness_days": 2})
    summary = ingest(source, folder / "snapshot", state=folder / "state")
    late = {"late by more than 2 days": 1}
    assert summary["rejected"]["events"] == late
    deliver(folder, 1, [f"u1,a,{5 * day}"])  # again, years later: it is as late as it ever was
    summary = ingest(source, folder / "snapshot", state=folder / "state")
    assert (summary["rejected"]["events"], summary["kept"]["events"]) == (late, 3)
    with pytest.raises(IngestError, match=r"max_lateness_days needs source\.incremental"):
        ingest(
            config(folder, cleaning={"max_lateness_days": 2}, incremental={}), folder / "snapshot"
        )


@pytest.mark.parametrize("cleaning", [{}, {"max_future_days": 3}, {"latest": "1980-01-01"}])
def test_one_date_in_the_future_makes_nothing_late(folder: Path, cleaning: dict[str, Any]) -> None:
    day = 86_400
    deliver(folder, 1, [f"u1,a,{5 * day}", "u1,b,4102444800"])  # 2100
    deliver(folder, 2, [f"u1,c,{6 * day}", f"u2,c,{1 * day}"])
    source = config(folder, cleaning={"max_lateness_days": 2} | cleaning)
    summary = ingest(source, folder / "snapshot")
    assert summary["rejected"]["events"]["late by more than 2 days"] == 1


def test_columns_of_days_that_differ_in_case_only_say_so(folder: Path) -> None:
    for day, name in ((1, "Note"), (2, "note")):
        deliver(folder, day, [])
        path = folder / "events" / f"day={day}" / "part.csv"
        path.write_text(f"user,item,time,{name}\nu1,a,1,x\n")
    with pytest.raises(IngestError, match=r"'Note' and another one 'note'.* rename it"):
        ingest(config(folder), folder / "snapshot")


def test_increments_hold_no_raw_id_and_no_two_keys(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    deliver(folder, 1, ["somebody,a,1", "broken somebody", "u2,b,2"])
    source = config(folder, privacy={"user_key_env": "SOME_KEY"})
    first = ingest(source, folder / "snapshot", state=folder / "state")
    assert len(first["user_key"]) == 8
    for place in ("state", "snapshot"):
        for path in (folder / place).rglob("*.*"):
            text = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else ""
            assert "somebody" not in f"{text}{path.read_bytes()!r}", path
    monkeypatch.setenv("SOME_KEY", KEY + "2")
    with pytest.raises(IngestError, match=rf"under key {first['user_key']}, and this run has"):
        ingest(source, folder / "snapshot", state=folder / "state")
    again = ingest(source, folder / "other", state=folder / "another state")
    assert again["user_key"] != first["user_key"]


def test_what_is_too_old_keeps_no_content_whatever_its_reason(folder: Path) -> None:
    day = 86_400
    rows = ["u1,a,{0}", "u2,nowhere,{0}", "u2,nowhere,{1}", "u3,b,{1}", "u4,a,5000000000"]
    deliver(folder, 1, [row.replace("{0}", f"{day}").replace("{1}", f"{9 * day}") for row in rows])
    source = config(folder, privacy={"retention_days": 3})
    summary = ingest(source, folder / "snapshot", state=folder / "state")
    assert summary["kept"]["events"] == 2  # a time far ahead expires nobody else
    rejects = pq.read_table(schema.table_path(folder / "snapshot", "rejects")).to_pylist()
    found = [(row["reason"], row["position"], row["row"] == "{}") for row in rejects]
    assert found == [
        ("older than 3 days (retention)", 0, True),
        ("unknown item", 1, True),
        ("unknown item", 2, False),
    ]
