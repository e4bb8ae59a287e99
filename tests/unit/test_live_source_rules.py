"""Live events are treated as ingestion treats its source's rows."""

import json
from pathlib import Path
from typing import Any

import ibis
import pytest

from feature_repo.live.events import Event
from feature_repo.live.intake import Dropped, Intake, Line
from feature_repo.live.origin import KEY, origin, origin_of
from feature_repo.live.outcomes import ERASED, FILTERED, TOO_OLD
from feature_repo.live.rejects import Rejects
from feature_repo.store import registry_file, store_folder
from ingestion.filters import checks
from ingestion.privacy.erased import remember_erased
from ingestion.privacy.pseudonyms import key_id, pseudonym
from ingestion.reading.settings import FilterConfig
from ingestion.sources import SourceConfig
from pipelines.erase.erase import erase_user
from pipelines.events.opening import source_rules
from pipelines.events.source_rules import SourceRules, matches
from recommender.errors import KuberecError
from recommender.files import write_json

SECRET = "0123456789abcdef"
COLUMNS = {"user_id": "uid", "item_id": "iid", "timestamp": "ts", "event_type": "action"}


def source(**changes: Any) -> SourceConfig:
    events = {"path": "events.csv", "format": "csv", "columns": COLUMNS}
    items = {"path": "items.csv", "format": "csv", "columns": {"item_id": "id", "title": "t"}}
    events |= changes.pop("events", {})
    return SourceConfig.model_validate({"name": "Shop", "events": events, "items": items} | changes)


def as_stored(config: SourceConfig, user_key: str | None = None) -> dict[str, Any]:
    return origin(json.loads(config.model_dump_json()), user_key)


def event(user: str = "u1", time_us: int = 0, **fields: Any) -> Event:
    return Event(user, "i1", time_us, 0, {"user_id": user, "item_id": "i1", **fields})


def test_filters_hold_by_the_sources_name_of_a_column_or_by_ours() -> None:
    filters = [{"column": "action", "one_of": ["buy", "view"]}, {"column": "stars", "at_least": 4}]
    rules = SourceRules(as_stored(source(events={"filters": filters})), None)
    assert rules.admit(event(event_type="buy", stars=4)) == event(event_type="buy", stars=4)
    assert isinstance(rules.admit(event(action="view", stars="4.5")), Event)
    dropped = rules.admit(event(event_type="hover", stars=5))
    assert dropped == Dropped(FILTERED, "action in buy, view")
    assert rules.admit(event(event_type="buy", stars=3)) == Dropped(FILTERED, "stars >= 4")
    lacking = rules.admit(event(event_type="buy"))
    assert lacking == Dropped(FILTERED, "stars >= 4 (the event has no stars)")


VALUES = [None, "", " ", "4", " 4 ", "4.0", 4, 4.0, 3.9, "x", "1_0", "nan", True, False, "true", -1]
ASKED = [
    {"equals": "4"}, {"equals": 4}, {"equals": True}, {"one_of": ["x", 4.0]}, {"not_null": True},
    {"at_least": 4}, {"at_most": 3.95}, {"at_least": 0, "at_most": 4}, {"at_least": "4"},
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_one_value_is_judged_as_a_column_is(asked: dict[str, Any]) -> None:
    config = FilterConfig.model_validate({"column": "c"} | asked)
    for kind in (str, float, bool):
        values = [each for each in VALUES if each is None or type(each) is kind]
        table = ibis.memtable(
            {"c": values}, schema={"c": {str: "string", float: "float64", bool: "boolean"}[kind]}
        )
        ((left_out, _),) = checks([config], table)
        expected = [
            not each for each in ibis.duckdb.connect().execute(table.select(out=left_out))["out"]
        ]
        assert [matches(config, each) for each in values] == expected, values


def test_types_that_the_command_names() -> None:
    rules = SourceRules(as_stored(source()), None, event_types=("buy",))
    assert isinstance(rules.admit(event(event_type="buy")), Event)
    assert isinstance(rules.admit(event(event_type="view")), Dropped)
    assert isinstance(rules.admit(event()), Dropped)  # of the source's own type, "interaction"


def test_limits_of_time_and_retention() -> None:
    day = 86_400_000_000
    config = source(
        cleaning={"earliest": "1970-01-02", "latest": "1970-01-31T00:00:00Z"},
        privacy={"retention_days": 10},
    )
    rules = SourceRules(as_stored(config), None, covered_until_us=20 * day)
    assert isinstance(rules.admit(event(time_us=10 * day)), Event)
    old = rules.admit(event(time_us=10 * day - 1))
    assert old == Dropped(TOO_OLD, "older than the source's retention")
    late = rules.admit(event(time_us=30 * day + 1))
    assert late == Dropped(FILTERED, "after the latest time")
    rules = SourceRules(as_stored(config), None)
    assert rules.admit(event(time_us=1)) == Dropped(FILTERED, "before the earliest time")


def test_users_become_the_pseudonyms_that_the_store_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)
    stored = as_stored(source(privacy={"user_key_env": "SHOP_KEY"}), key_id(SECRET.encode()))
    rules = SourceRules(stored, None)
    found = rules.admit(event("u1"))
    assert isinstance(found, Event)
    assert found.user_id == pseudonym("u1", SECRET.encode())
    kept = rules.may_keep({"user_id": "u1", "item_id": "i1", "phone": "+49"}, b"")
    assert kept == {"user_id": pseudonym("u1", SECRET.encode()), "item_id": "i1"}
    assert rules.may_keep(None, b"u1,i1") is None
    known = SourceRules(stored, None, stored_ids=True).admit(event("abc"))
    assert isinstance(known, Event)
    assert known.user_id == "abc"
    monkeypatch.setenv("SHOP_KEY", SECRET * 2)
    with pytest.raises(KuberecError, match="a user would be two"):
        SourceRules(stored, None)
    monkeypatch.delenv("SHOP_KEY")
    with pytest.raises(KuberecError, match=r"SHOP_KEY \(source.privacy.user_key_env\) is not set"):
        SourceRules(stored, None)
    with pytest.raises(KuberecError, match="the config names no key"):
        SourceRules(as_stored(source(), "1f0c22ab"), None)


def test_erased_users_stay_out_also_those_erased_while_it_runs(tmp_path: Path) -> None:
    rules = SourceRules(as_stored(source()), tmp_path)
    assert isinstance(rules.admit(event("u1")), Event)
    remember_erased(tmp_path, ["u1"])
    assert rules.admit(event("u1")) == Dropped(ERASED, "")
    assert isinstance(rules.admit(event("u2")), Event)
    assert rules.may_keep({"user_id": " u1 ", "item_id": 3}, b"") is None
    assert rules.may_keep({"user_id": "u2"}, b"") == {"user_id": "u2"}
    assert rules.may_keep(None, b"u1,i1") is None


@pytest.mark.parametrize("key", [None, SECRET])
def test_events_that_name_no_user_as_they_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """They are refused like others; where somebody was erased, they may be that one's."""
    config = source(privacy={"user_key_env": "USER_KEY"} if key else {})
    monkeypatch.setenv("USER_KEY", SECRET)
    rules = SourceRules(as_stored(config, key_id(key.encode()) if key else None), tmp_path)
    half = {"user_id": "\ud800", "item_id": "i1"}  # of a surrogate pair: JSON can say that
    lines = [json.dumps(each).encode() for each in (half, {"uid": "u1"}, {"user_id": ["u1"]})]

    def refused() -> list[Any]:
        rejects = Rejects(tmp_path / "rejects.jsonl")
        rejects.path.unlink(missing_ok=True)
        Intake(NoHistories(), rejects, rules).take([Line(line, "there") for line in lines])
        return [json.loads(line)["event"] for line in rejects.path.read_text().splitlines()]

    kept = refused()
    assert len(kept) == 3
    assert ("u1" in str(kept)) == (key is None)
    remember_erased(tmp_path, ["u1"])
    assert "u1" not in str(refused())


class NoHistories:
    def apply(self, events: Any) -> Any:
        raise AssertionError("every event was to be refused")


def test_the_store_says_whose_users_it_has(tmp_path: Path) -> None:
    with pytest.raises(KuberecError, match="no feature store in"):
        source_rules(tmp_path, None, "source", ())
    offline = store_folder(tmp_path) / "offline"
    offline.mkdir(parents=True)
    registry_file(tmp_path).write_bytes(b"")
    with pytest.raises(KuberecError, match="does not say which source its users are of"):
        source_rules(tmp_path, None, "source", ())
    assert isinstance(source_rules(tmp_path, None, "stored", ()).admit(event()), Event)
    assert isinstance(source_rules(tmp_path, source(), "source", ()).admit(event()), Event)
    filters = [{"column": "action", "equals": "buy"}]
    snapshot = {"source": json.loads(source(events={"filters": filters}).model_dump_json())}
    write_json(tmp_path / "snapshot" / "snapshot.json", snapshot | {"user_key": None})
    write_json(offline / "offline.json", {KEY: origin_of(tmp_path / "snapshot")})
    rules = source_rules(tmp_path, None, "source", ())
    assert isinstance(rules.admit(event(event_type="view")), Dropped)
    remember_erased(tmp_path / "ingest" / "shop", ["u1"])
    assert rules.admit(event("u1", event_type="buy")) == Dropped(ERASED, "")
    with pytest.raises(KuberecError, match="are of source 'Shop', and the config is of 'Other'"):
        source_rules(tmp_path, source(name="Other"), "source", ())
    with pytest.raises(KuberecError, match="--user-ids 'raw': allowed: source, stored"):
        source_rules(tmp_path, None, "raw", ())


def test_an_erased_user_is_known_by_the_pseudonym_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)
    config = source(privacy={"user_key_env": "SHOP_KEY"})
    erase_user("u1", config, home=tmp_path, runs=tmp_path / "runs")
    stored = as_stored(config, key_id(SECRET.encode()))
    rules = SourceRules(stored, tmp_path / "ingest" / "shop", stored_ids=True)
    assert rules.admit(event(pseudonym("u1", SECRET.encode()))) == Dropped(ERASED, "")
    assert isinstance(rules.admit(event(pseudonym("u2", SECRET.encode()))), Event)
