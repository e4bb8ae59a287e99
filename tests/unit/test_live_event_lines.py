"""Lines as live events: what is read, what is refused and why, and the clock's skew."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from feature_repo.live.events import MAX_LINE, Event, NotAnEvent, read_event
from feature_repo.live.histories import Applied
from feature_repo.live.intake import Dropped, Intake, Line, OpenRules
from feature_repo.live.outcomes import APPLIED, ERASED, FILTERED, REFUSED
from feature_repo.live.rejects import Rejects
from feature_repo.live.times import NoTime, TimeRule, time_us
from feature_repo.stores.base import StoreDown
from recommender.errors import KuberecError

NOW = 1_750_000_000.0
GOOD = {"user_id": "u1", "item_id": "i1", "timestamp": "2025-06-15T15:06:40Z"}


def read(**changes: Any) -> Event:
    return read_event(json.dumps(GOOD | changes).encode(), TimeRule())


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("2025-06-15T15:06:40Z", 1_750_000_000_000_000),
        ("2025-06-15 17:06:40.000001+02:00", 1_750_000_000_000_001),
        (1_750_000_000, 1_750_000_000_000_000),
        (1_750_000_000.000001, 1_750_000_000_000_001),
        ("1750000000.5", 1_750_000_000_500_000),
        (1.75e9, 1_750_000_000_000_000),
        ("1960-01-01T00:00:00-00:00", -315_619_200_000_000),
    ],
)
def test_times(written: object, us: int) -> None:
    assert read(timestamp=written).time_us == us


@pytest.mark.parametrize(
    ("unit", "written"), [("ms", 1_750_000_000_001), ("us", 1_750_000_000_001_000)]
)
def test_times_of_other_units(unit: str, written: int) -> None:
    assert time_us(written, TimeRule(unit)) == 1_750_000_000_001_000


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("2025-06-15T15:06:40", "has no time zone"),
        ("2025-06-15", "has no time zone"),
        ("yesterday", "is no time"),
        ("2025-13-01T00:00:00Z", "is no time"),
        ("0001-01-01T00:00:00+10:00", "is no time"),
        ("9" * 5000, "is no time"),
        (1_750_000_000_000, "not between 1900 and 2200"),
        (True, "neither a text nor a number"),
        (None, "neither a text nor a number"),
        ([], "neither a text nor a number"),
        (float("nan"), "is no number"),
        (" ", "is blank"),
    ],
)
def test_times_that_are_refused(written: object, reason: str) -> None:
    with pytest.raises(NotAnEvent, match=reason):
        read(timestamp=written)


def test_a_time_without_a_zone_is_of_the_one_that_is_named() -> None:
    berlin = TimeRule(zone=ZoneInfo("Europe/Berlin"))
    assert time_us("2025-06-15T17:06:40", berlin) == 1_750_000_000_000_000
    assert time_us("2025-06-15T15:06:40Z", berlin) == 1_750_000_000_000_000
    with pytest.raises(NoTime, match="was there twice"):
        time_us("2025-10-26T02:30:00", berlin)
    with pytest.raises(NoTime, match="was skipped"):
        time_us("2025-03-30T02:30:00", berlin)


def test_ids_are_as_ingestion_has_them() -> None:
    event = read(user_id=" ü1 ", item_id=42, rank=3, seen_on="phone")
    assert event[:4] == ("ü1", "42", 1_750_000_000_000_000, 3)
    assert event.fields["seen_on"] == "phone"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": " "}, "missing user_id"),
        ({"user_id": None}, "missing user_id"),
        ({"user_id": 1.5}, "user_id is neither a text nor a whole number"),
        ({"user_id": True}, "user_id is neither"),
        ({"item_id": "a\0b"}, "item_id has characters that no text may have"),
        ({"item_id": "\ud800"}, "item_id has characters"),
        ({"event_type": 3}, "event_type is no text"),
        ({"rank": -1}, "rank is no whole number from 0"),
        ({"rank": 2**63}, "rank is no whole number"),
    ],
)
def test_fields_that_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotAnEvent, match=reason):
        read(**changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"user_id,item_id", "not JSON"),
        (b'{"user_id": "u1", "item', "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "missing user_id"),
        (b'{"user_id": "u", "item_id": "i"}', "missing timestamp"),
        (b" " * (MAX_LINE + 1), "longer than"),
    ],
)
def test_lines_that_are_refused(line: bytes, reason: str) -> None:
    with pytest.raises(NotAnEvent, match=reason):
        read_event(line, TimeRule())


class Memory:
    """Histories that take everything, once it is `up`."""

    def __init__(self, up: bool = True) -> None:
        self.up = up
        self.events: list[Event] = []

    def apply(self, events: Any) -> Applied:
        if not self.up:
            raise StoreDown("gone")
        self.events += events
        return Applied([APPLIED] * len(events), 0)


def at(seconds: float) -> Line:
    moment = datetime.fromtimestamp(NOW + seconds, UTC).isoformat()
    return Line(json.dumps(GOOD | {"timestamp": moment}).encode(), f"at {seconds:g}")


def intake(rejects: Path, memory: Memory, **more: Any) -> Intake:
    return Intake(memory, Rejects(rejects), clock=lambda: NOW, **more)


def rejected(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_too_far_in_the_future_is_refused_and_nothing_is_moved(tmp_path: Path) -> None:
    memory = Memory()
    tally = intake(tmp_path / "r", memory).take([at(-9e8), at(0), at(300), at(300.1), at(9e8)])
    assert (tally.outcomes[APPLIED], tally.outcomes[REFUSED]) == (3, 2)
    assert [event.time_us / 1e6 - NOW for event in memory.events] == [-9e8, 0, 300]
    assert [each["place"] for each in rejected(tmp_path / "r")] == ["at 300.1", "at 9e+08"]
    assert rejected(tmp_path / "r")[0]["reason"].startswith("in the future: more than 300 s")
    assert tally.last_us == 1_750_000_300_000_000
    other = intake(tmp_path / "r", memory, max_ahead_s=0.0).take([at(0), at(0.5)])
    assert (other.outcomes[APPLIED], other.outcomes[REFUSED]) == (1, 1)


def test_bad_lines_are_kept_and_the_others_go_on(tmp_path: Path) -> None:
    lines = [
        Line(b"nonsense \xff", "f:1"),
        at(0),
        Line(b"", "f:3"),
        Line(b'{"user_id": "u9"}', "f:4"),
    ]
    memory = Memory()
    tally = intake(tmp_path / "deep" / "r", memory).take(lines)
    assert str(tally) == "3 events: 1 applied, 2 refused"
    assert rejected(tmp_path / "deep" / "r") == [
        {"reason": "not UTF-8", "place": "f:1", "event": "nonsense \\xff"},
        {"reason": "missing item_id", "place": "f:4", "event": {"user_id": "u9"}},
    ]
    assert (tmp_path / "deep" / "r").stat().st_mode & 0o777 == 0o600


def test_a_store_that_is_down_leaves_no_rejects_to_be_written_twice(tmp_path: Path) -> None:
    memory = Memory(up=False)
    work = intake(tmp_path / "r", memory)
    for _ in range(2):
        with pytest.raises(StoreDown):
            work.take([Line(b"nonsense", "f:1"), at(0)])
    memory.up = True
    work.take([Line(b"nonsense", "f:1"), at(0)])
    assert len(rejected(tmp_path / "r")) == 1


def test_rejects_that_cannot_be_written_are_no_small_matter(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(KuberecError, match=r"cannot be written to '.*r' \(Is a directory\)"):
        intake(tmp_path / "r", Memory()).take([Line(b"nonsense", "f:1")])


class Strict(OpenRules):
    def admit(self, event: Event) -> Event | Dropped:
        if event.item_id == "i1":
            return Dropped(FILTERED, "item i1")
        return Dropped(ERASED, "")


def test_what_rules_leave_out_is_counted_and_not_kept(tmp_path: Path) -> None:
    other = Line(json.dumps(GOOD | {"item_id": "i2"}).encode(), "2")
    tally = intake(tmp_path / "r", Memory(), rules=Strict()).take([at(0), at(0), other])
    assert str(tally) == "3 events: 2 filtered, 1 erased user"
    assert tally.reasons == {(FILTERED, "item i1"): 2}
    assert not (tmp_path / "r").exists()
