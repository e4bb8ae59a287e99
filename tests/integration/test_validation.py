"""The validation gate: what passes, what stops a run, and what it says."""

import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ingestion.errors import ValidationFailed
from ingestion.validation.run import state_folder, validate
from ingestion.validation.settings import ValidationConfig
from recommender import schema
from recommender.errors import KuberecError
from recommender.files import read_json

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
CONFIG = ValidationConfig(as_of=NOON + timedelta(days=1), max_age_days=7, min_value=0, max_value=5)
EVENT = {"event_type": "view", "value": 1.0}


def events() -> list[dict[str, Any]]:
    ids = [("u1", "a"), ("u1", "b"), ("u2", "a"), ("u2", "c")]
    return [
        EVENT
        | {"user_id": user, "item_id": item, "position": position}
        | {"timestamp": NOON - timedelta(hours=position)}
        for position, (user, item) in enumerate(ids)
    ]


def items() -> list[dict[str, Any]]:
    return [
        {"item_id": item, "title": f"T {item}", "text": f"Text {item}", "categories": ["x"]}
        for item in "abc"
    ]


def write(folder: Path, **tables: list[dict[str, Any]]) -> Path:
    """A snapshot of good tables, or of those given, which may break the schema."""
    folder.mkdir(exist_ok=True)
    good = {"events": events(), "items": items(), "users": [{"user_id": u} for u in ("u1", "u2")]}
    for name, rows in (good | tables).items():
        loose = [
            field.with_nullable(True) for field in schema.TABLES[name] if field.name in rows[0]
        ]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(loose)), folder / f"{name}.parquet")
    return folder


def results(report: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in read_json(report / "validation.json")["expectations"]}


def test_good_data_passes_and_nothing_is_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    report = validate(write(tmp_path / "snapshot"), CONFIG, tmp_path / "report")
    assert report["success"]
    assert all(row["success"] for row in report["expectations"])
    tables = {row["table"] for row in report["expectations"]}
    assert tables == {"events", "items", "users", "snapshot"}
    assert report == read_json(tmp_path / "report" / "validation.json")
    index = (tmp_path / "report" / report["data_docs"]).read_text()
    pages = list((tmp_path / "report" / "data_docs").rglob("*.html"))
    assert {page.stem for page in pages} >= {"index", "events", "items", "users"}
    assert "snapshot-events" in index
    assert not any("dataContextId" in page.read_text() for page in pages)
    assert list(home.iterdir()) == list(work.iterdir()) == []
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
    # Again, over what is there.
    again = validate(tmp_path / "snapshot", CONFIG, tmp_path / "report")
    assert again | {"at": ""} == report | {"at": ""}


def test_every_broken_rule_is_named_with_its_values(tmp_path: Path) -> None:
    bad_events = events()
    bad_events[0] |= {"value": 9.0}
    bad_events[1] |= {"item_id": "ghost"}
    bad_events[2] |= {"user_id": "stranger", "event_type": None}
    bad_events += [bad_events[3]]
    bad_events[0] |= {"timestamp": NOON + timedelta(days=3)}
    bad_items = items()
    bad_items[1] |= {"item_id": "a", "text": ""}
    config = CONFIG.model_copy(update={"min_users": 10, "max_items": 2})
    snapshot = write(tmp_path / "snapshot", events=bad_events, items=bad_items)
    with pytest.raises(ValidationFailed) as caught:
        validate(snapshot, config, tmp_path / "report")
    found = results(tmp_path / "report")
    assert {name for name, row in found.items() if not row["success"]} == {
        "events.event_type.not_null",
        "events.item_id.known",
        "events.timestamp.newest",
        "events.unique",
        "events.unknown_items",
        "events.user_id.known",
        "events.value.range",
        "items.item_id.unique",
        "items.rows",
        "items.text.length",
        "users.rows",
    }
    assert found["events.item_id.known"]["samples"] == ["ghost"]
    assert found["events.user_id.known"]["samples"] == ["stranger"]
    assert found["events.value.range"]["samples"] == [9.0]
    assert found["events.value.range"]["unexpected_count"] == 1
    assert found["items.item_id.unique"]["samples"] == ["a"]
    assert found["users.rows"]["observed"] == 2
    message = str(caught.value)
    assert (
        "events.value.range (expect_column_values_to_be_between): events column 'value', "
        "limit 0.0 to 5.0: 1 values break it, such as 9.0"
    ) in message
    assert (
        "users.rows (expect_table_row_count_to_be_between): users, limit >= 10: found 2" in message
    )
    assert str(tmp_path / "report" / "data_docs" / "index.html") in message
    assert (tmp_path / "report" / "data_docs" / "index.html").is_file()


def test_stale_data_and_a_missing_column(tmp_path: Path) -> None:
    untyped = [{key: row[key] for key in row if key != "text"} for row in items()]
    snapshot = write(tmp_path / "snapshot", items=untyped)
    config = ValidationConfig(as_of=NOON + timedelta(days=8), max_age_days=7)
    with pytest.raises(ValidationFailed, match=r"(?s)events\.timestamp\.newest .*items\.text"):
        validate(snapshot, config, tmp_path / "report")
    found = results(tmp_path / "report")
    assert not found["items.text.exists"]["success"]
    assert "text" in found["items.text.length"]["error"]
    assert found["events.timestamp.newest"]["observed"] == "2024-05-01 12:00:00"


def test_a_warning_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    config = ValidationConfig(as_of=NOON - timedelta(days=1), warn_only=["events.timestamp.newest"])
    report = validate(write(tmp_path / "snapshot"), config, tmp_path / "report")
    assert report["success"]
    row = results(tmp_path / "report")["events.timestamp.newest"]
    assert (row["success"], row["severity"]) == (False, "warning")


def test_limits_and_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"min_items = 5 is above max_items = 4"):
        ValidationConfig(min_items=5, max_items=4)
    config = ValidationConfig(warn_only=["events.timestamp"])
    snapshot = write(tmp_path / "snapshot")
    with pytest.raises(KuberecError, match=r"no check 'events\.timestamp'; there are .*newest"):
        validate(snapshot, config, tmp_path / "report")


def test_identifiers_of_people_are_refused_and_shown_masked(tmp_path: Path) -> None:
    bad_items, bad_events = items(), events()
    bad_items[0] |= {"title": "Ask jane.doe@example.com", "categories": ["x", "+44 20 7946 0958"]}
    bad_items[1] |= {"text": "paid by 4111-1111-1111-1111"}
    bad_items[2] |= {"text": "part 4111-1111-1111-1112"}  # whose last digit does not check
    bad_events[0] |= {"event_type": "mail bob@example.org"}
    snapshot = write(tmp_path / "snapshot", items=bad_items, events=bad_events)
    with pytest.raises(ValidationFailed) as caught:
        validate(snapshot, CONFIG, tmp_path / "report")
    found = results(tmp_path / "report")
    failed = {name for name, row in found.items() if not row["success"]}
    assert failed == {"items.no_email", "items.no_phone", "items.no_card", "events.no_email"}
    assert found["items.no_email"]["samples"] == ["title: Ask j…m (20 characters)"]
    assert found["items.no_card"]["unexpected_count"] == 1
    assert found["items.no_card"]["samples"] == ["text: paid by 4…1 (19 characters)"]
    written = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    everything = str(caught.value) + "".join(path.read_text("latin-1") for path in written)
    for secret in ("jane.doe", "20 7946", "1111-1111-1111-1111", "bob@"):
        assert secret not in everything
    ignored = CONFIG.model_copy(
        update={
            "personal": CONFIG.personal.model_copy(update={"email": False, "card": False}),
            "warn_only": ["items.no_phone"],
        }
    )
    assert validate(snapshot, ignored, tmp_path / "report")["success"]


def test_interactions_out_of_limits_warn_unless_they_are_to_stop(tmp_path: Path) -> None:
    flood = [
        EVENT
        | {"user_id": "u1", "item_id": "a", "position": place}
        | {"timestamp": NOON - timedelta(hours=40, seconds=place)}
        for place in range(60)
    ]
    late = [row | {"position": 60 + row["position"]} for row in events()]
    snapshot = write(tmp_path / "snapshot", events=flood + late)
    limits = {"max_events_of_a_user": 50, "max_item_gini": 0.5, "max_median_gap_days": 0.01}
    config = CONFIG.model_copy(
        update={
            "interactions": CONFIG.interactions.model_copy(update=limits),
            "severities": {"events.item_gini": "critical"},
        }
    )
    with pytest.raises(ValidationFailed, match=r"events\.item_gini .*found 0\.6") as caught:
        validate(snapshot, config, tmp_path / "report")
    found = results(tmp_path / "report")
    failed = {name: row["severity"] for name, row in found.items() if not row["success"]}
    assert failed == {
        "events.item_gini": "critical",
        "events.per_user.max": "warning",
        "events.session_gap.median": "warning",
    }
    assert "events.per_user.max" not in str(caught.value)
    assert found["events.per_user.max"]["observed"] == 62
    # Of 64 events: 62, 1 and 1 of three items: G = 2 (1 + 2 + 3 * 62) / (3 * 64) - 4 / 3.
    assert found["events.item_gini"]["observed"] == pytest.approx(2 * 189 / 192 - 4 / 3)


@pytest.mark.parametrize("folder", ["expectations", "validation_definitions"])
def test_a_run_that_was_killed_while_it_wrote_a_suite_is_no_obstacle(
    folder: str, tmp_path: Path
) -> None:
    snapshot, state = write(tmp_path / "snapshot"), tmp_path / "state"
    validate(snapshot, CONFIG, tmp_path / "report", state)
    events, items = (state / "gx" / folder / f"{name}.json" for name in ("events", "items"))
    events.write_bytes(b"")
    items.write_bytes(items.read_bytes()[:200])
    assert validate(snapshot, CONFIG, tmp_path / "report", state)["success"]
    site = tmp_path / "report" / "data_docs" / "validations" / "events"
    assert len(list(site.rglob("*.html"))) == 2  # the history is still there


def test_data_docs_show_the_last_runs(tmp_path: Path) -> None:
    snapshot, state = write(tmp_path / "snapshot"), tmp_path / "state"
    config = CONFIG.model_copy(update={"history": 2})
    for _ in range(3):
        report = validate(snapshot, config, tmp_path / "report", state)
    assert report["drift"]["compared_with"] is not None
    site = tmp_path / "report" / "data_docs"
    assert len(list((site / "validations" / "events").rglob("*.html"))) == 2
    index = (site / "index.html").read_text()
    assert all(
        page.relative_to(site).as_posix().replace(" ", "%20") in index.replace(" ", "%20")
        for page in (site / "validations").rglob("*.html")
    )
    shown = "".join(page.read_text() for page in (site / "validations").rglob("*.html"))
    assert "events.value.range: 0.0 to 5.0" in shown
    assert "1: 4 rows, 4 accepted" in shown
    assert read_json(state / "accepted.json")["profile"]["rows"]["events"] == 4


@pytest.mark.parametrize("content", ['{"profile": {"rows": {', "[]"])
def test_a_damaged_profile_is_named(tmp_path: Path, content: str) -> None:
    snapshot, state = write(tmp_path / "snapshot"), tmp_path / "state"
    validate(snapshot, CONFIG, tmp_path / "report", state)
    (state / "accepted.json").write_text(content)
    with pytest.raises(KuberecError, match=r"accepted\.json' is no profile .* delete it"):
        validate(snapshot, CONFIG, tmp_path / "report", state)


def test_limits_of_time_are_said_in_utc(tmp_path: Path) -> None:
    east = timezone(timedelta(hours=5))
    config = ValidationConfig(
        as_of=datetime(2024, 5, 2, 17, tzinfo=east),
        earliest=datetime(2024, 1, 1, 5, tzinfo=east),
    )
    validate(write(tmp_path / "snapshot"), config, tmp_path / "report")
    found = results(tmp_path / "report")
    assert found["events.timestamp.newest"]["limit"] == "not after 2024-05-02 12:00 UTC"
    assert found["events.timestamp.earliest"]["limit"] == "not before 2024-01-01 00:00 UTC"


def test_the_guide_has_every_limit_with_its_default() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "data" / "validation.md").read_text("utf-8")
    (block,) = re.findall(r"## Every limit\n.*?```yaml\n(.*?)```", guide, re.DOTALL)
    given = yaml.safe_load(block)["validation"]
    assert ValidationConfig.model_validate(given) == ValidationConfig()
    for name, part in {"": given, **{key: given[key] for key in ("interactions", "drift")}}.items():
        config = getattr(ValidationConfig(), name) if name else ValidationConfig()
        assert set(part) == set(type(config).model_fields)


def test_sources_of_any_script_have_folders_of_their_own() -> None:
    names = ["MovieLens 1M", "数据", "商店", "../up"]
    folders = [state_folder(Path("home"), name).name for name in names]
    assert folders == ["movielens-1m", "数据", "商店", "up"]
