"""What a replay says of a logged row is what a plain reading of the definitions says."""

import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_tables import KEY, History, log_row, write_events, write_log

from feature_repo.replay.causes import MEANING, Cause, Kind
from feature_repo.replay.events import offline_events
from feature_repo.replay.replay import replay
from feature_repo.replay.report import skew_check
from recommender.errors import KuberecError

S, DAY = 10**6, 86_400 * 10**6
T0 = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * S


class Case(NamedTuple):
    """An engine's question in small numbers: times 0 to 15, few items, few events."""

    events: dict[str, list[tuple[int, str]]]
    rows: list[dict[str, Any]]
    length: int
    slack: int  # the data covers so much beyond its last event
    allow_us: int

    @property
    def covered(self) -> tuple[int, int]:
        times = [time for history in self.events.values() for time, _ in history] or [0]
        return min(times), max(times) + self.slack


_event = st.tuples(st.integers(0, 9), st.sampled_from("abc"))


@st.composite
def cases(draw: Any) -> Case:
    """Random events; histories as used are those as of some time, changed a little, or random."""
    events = {
        user: sorted(draw(st.lists(_event, min_size=3, max_size=7)), key=lambda each: each[0])
        for user in ("u1", "u2")
    }
    length = draw(st.integers(1, 4))
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        user = draw(st.sampled_from(["u1", "u1", "u2", "u2", "nobody"]))
        used = list(as_of(events.get(user, []), draw(st.integers(5, 12)), length))
        for change in draw(st.lists(st.sampled_from("dsilp"), max_size=2)):
            place = draw(st.integers(0, max(0, len(used) - 1)))
            if change == "d" and used:
                del used[place]
            elif change == "s" and used:
                used[place], used[-1] = used[-1], used[place]
            elif change == "i":
                used.insert(place, draw(st.tuples(st.integers(0, 12), st.sampled_from("abz"))))
            elif change == "l":
                used = used[1:]
            elif change == "p":
                used.append(draw(st.tuples(st.integers(9, 13), st.sampled_from("ab"))))
        changes = draw(
            st.sampled_from(
                [{}] * 16
                + [{"feature_status": "given"}, {"feature_status": "fallback_stale"}]
                + [{"user_key": "another"}, {"history_times": None}]
            )
        )
        known = draw(st.integers(0, 9)) > 0
        moment = draw(st.integers(0, 14) | st.integers(9, 14))
        rows.append(log_row(user, used if known else None, moment, **changes))
    slack, allow_us = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    return Case(events, rows, length, slack, allow_us)


def event_times(history: History) -> list[int]:
    """Of Feast's rows: strictly increasing."""
    times: list[int] = []
    for time_us, _ in history:
        times.append(max(time_us, times[-1] + 1 if times else 0))
    return times


def as_of(history: History, moment: int, length: int) -> History:
    times = event_times(history)
    return [each for each, time in zip(history, times, strict=True) if time <= moment][-length:]


def plain(case: Case, row: dict[str, Any], user: str) -> Cause:
    """The definitions of feature_repo.replay.causes, one after another, over lists."""
    if row["feature_status"] == "given":
        return Cause.GIVEN
    if row["feature_status"].startswith("fallback"):
        return Cause.NO_FEATURES
    if row["user_key"] == "another":
        return Cause.OTHER_KEY
    moment, (first, last) = row["as_of"], case.covered
    if moment < first:
        return Cause.EXPIRED_LOG
    history = case.events.get(user, [])
    times = event_times(history)
    then = [each for each, time in zip(history, times, strict=True) if time <= moment]
    expected = then[-case.length :]
    items = row["history"]
    if items == [item for _, item in expected] and row["history_times"] in (
        None,
        [time for time, _ in expected],
    ):
        return Cause.MATCH
    used = list(zip(row["history_times"] or [], items, strict=False))
    places, unmatched = find(used, history)
    past = [place for place in places if place < len(then)]
    hi = max(past, default=-1)
    behind = hi + 1 < len(then)
    overdue = behind and moment - times[hi + 1] > case.allow_us
    if row["feature_status"] == "unknown" and overdue:
        return Cause.MISSING_USER
    if items and row["history_times"] is None:
        return Cause.UNEXPLAINED
    if len(past) < len(places) or any(time > moment for time, _ in unmatched):
        return Cause.FUTURE_EVENT
    within = [each for each in unmatched if first <= each[0] <= last]
    everything = {item for events in case.events.values() for _, item in events}
    if any(item not in everything for _, item in within):
        return Cause.UNKNOWN_ITEM
    if within:
        return Cause.EXTRA_EVENT
    pushed = [each for each in unmatched if each[0] > last]
    if (past and set(range(min(past), hi + 1)) - set(past)) or (pushed and behind):
        return Cause.LATE_EVENT
    if places != sorted(places) or [time for time, _ in used] != sorted(time for time, _ in used):
        return Cause.ORDER
    if past and min(past) != max(0, hi + 1 - (case.length - (len(used) - len(past)))):
        return Cause.TRUNCATED
    if behind:
        return Cause.NOT_MATERIALISED if overdue else Cause.LAG
    return Cause.PUSHED if pushed else Cause.EXPIRED


def find(used: History, history: History) -> tuple[list[int], History]:
    """Places of used events in the history, in the order of use; and the events it lacks."""
    left = list(enumerate(history))
    places, unmatched = [], []
    for each in used:
        found = next((pair for pair in left if pair[1] == each), None)
        if found is None:
            unmatched.append(each)
        else:
            left.remove(found)
            places.append(found[0])
    return places, unmatched


@settings(max_examples=20, deadline=None)
@given(cases())
def test_the_engine_says_what_the_definitions_say(case: Case) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        write_events(folder, case.events, case.length, case.covered[1])
        users = {log_row(user, [], 0)["user_id"]: user for user in ("u1", "u2", "nobody")}
        rows = [row | {"model_version": f"v{n}"} for n, row in enumerate(case.rows)]
        write_log(folder / "log", rows)
        report = replay(
            folder / "log", offline_events(folder), KEY, allow_lag_s=case.allow_us / 1e6
        )
    finally:
        shutil.rmtree(folder)
    said = {group.version: list(group.causes) for group in report.groups}
    expected = {row["model_version"]: [plain(case, row, users[row["user_id"]])] for row in rows}
    assert said == expected


EVENTS = {"u1": [(T0 + n * S, f"i{n}") for n in range(6)], "u2": [(T0 + 5 * S, "i1")]}
NOW = T0 + 3 * DAY


def run(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    offline = write_events(tmp_path / "offline", EVENTS, 4, T0 + 10 * S)
    write_log(tmp_path / "log", rows)
    return replay(tmp_path / "log", offline_events(offline), KEY, **options)


def test_share_lag_examples_and_days(tmp_path: Path) -> None:
    full = EVENTS["u1"][-4:]
    rows = [
        *(log_row("u1", full, NOW + n * DAY) for n in range(3)),
        log_row("u1", EVENTS["u1"][:4], T0 + 3600 * S, request_id="behind an hour"),
        log_row("u1", EVENTS["u1"][:3], NOW, request_id="behind for days", model_version="v2"),
        log_row("u1", [], NOW, feature_status="given"),
    ]
    report = run(tmp_path, rows, allow_lag_s=86_400)
    assert report.causes == {
        Cause.GIVEN: 1, Cause.MATCH: 3, Cause.NOT_MATERIALISED: 1, Cause.LAG: 1
    }  # fmt: skip
    assert (report.rows, report.compared, report.skewed, report.share) == (6, 5, 1, 0.2)
    assert report.lag_s["max"] == pytest.approx(3 * 86_400 - 3)
    (example,) = report.examples[Cause.LAG]
    assert example.request_id == "behind an hour"
    assert (example.used, example.expected, example.missing) == (4, 4, 2)
    assert example.lag_s == pytest.approx(3596)
    assert [(group.version, group.day) for group in report.groups] == [
        ("v1", "2026-11-20"), ("v1", "2026-11-23"), ("v1", "2026-11-24"), ("v1", "2026-11-25"),
        ("v2", "2026-11-23"),
    ]  # fmt: skip
    told = report.as_dict()
    assert sum(cause["rows"] for cause in told["causes"]) == 6
    assert not skew_check(report, 0.2).passed
    assert skew_check(report, 0.21).passed


def test_a_row_that_stood_still_is_not_excused_by_events_that_came_lately(tmp_path: Path) -> None:
    """More than `history_length` of them: of what was missed first, nothing would be used now."""
    lately = [(NOW - (9 - n) * S, f"new{n}") for n in range(5)]
    events = {name: [*EVENTS["u1"], *lately] for name in ("still", "lost", "lags")}
    events["lags"] = [EVENTS["u1"][0], *lately]
    offline = write_events(tmp_path / "offline", events, 4, NOW)
    rows = [
        log_row("still", EVENTS["u1"][:3], NOW),
        log_row("lost", None, NOW),
        log_row("lags", EVENTS["u1"][:1], NOW),
    ]
    write_log(tmp_path / "log", rows)
    report = replay(tmp_path / "log", offline_events(offline), KEY, allow_lag_s=86_400)
    assert report.causes == {Cause.MISSING_USER: 1, Cause.NOT_MATERIALISED: 1, Cause.LAG: 1}


def test_since_until_version_and_limit_choose_rows(tmp_path: Path) -> None:
    full = EVENTS["u1"][-4:]
    rows = [
        log_row("u1", full, NOW + day * DAY + 3600 * S, model_version=version)
        for day in range(4)
        for version in ("v1", "v2")
    ]
    day = datetime.fromtimestamp(NOW / S, UTC)
    assert run(tmp_path, rows).rows == 8
    log, offline = tmp_path / "log", offline_events(tmp_path / "offline")
    assert replay(log, offline, KEY, version="v2").rows == 4
    assert replay(log, offline, KEY, since=day.replace(day=25)).rows == 4
    assert replay(log, offline, KEY, until=day.replace(day=25)).rows == 4
    assert replay(log, offline, KEY, since=day.replace(hour=1, second=1)).rows == 6
    newest = replay(log, offline, KEY, limit=3)
    assert [(group.day, sum(group.causes.values())) for group in newest.groups] == [
        ("2026-11-25", 1), ("2026-11-26", 1), ("2026-11-26", 1)
    ]  # fmt: skip


def test_no_rows_are_no_skew_and_no_folder_is_an_error(tmp_path: Path) -> None:
    offline = write_events(tmp_path / "offline", EVENTS, 4, NOW)
    (tmp_path / "log").mkdir()
    report = replay(tmp_path / "log", offline_events(offline), KEY)
    assert (report.rows, report.share) == (0, 0.0)
    assert skew_check(report, 0.0).passed
    with pytest.raises(KuberecError, match=r"no request log .*request_log\.share"):
        replay(tmp_path / "other", offline_events(offline), KEY)
    with pytest.raises(KuberecError, match=r"no events\.parquet"):
        offline_events(tmp_path / "log")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    offline = write_events(tmp_path / "offline", EVENTS, 4, NOW)
    write_log(tmp_path / "log", [log_row("u1", EVENTS["u1"], NOW)])
    (path,) = (tmp_path / "log").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(KuberecError, match=rf"cannot be read: .*{path.name}.*remove it"):
        replay(tmp_path / "log", offline_events(offline), KEY)


def test_a_key_longer_than_a_block_is_hashed_as_the_rfc_says(tmp_path: Path) -> None:
    from feature_repo.replay import replay as module
    from recommender.pseudonyms import key_id, pseudonym

    key = b"k" * 100
    offline = write_events(tmp_path / "offline", EVENTS, 4, T0 + 10 * S)
    row = log_row("u1", EVENTS["u1"][-4:], NOW)
    row |= {"user_id": pseudonym("u1", key), "user_key": key_id(key)}
    write_log(tmp_path / "log", [row])
    report = module.replay(tmp_path / "log", offline_events(offline), key)
    assert report.causes == {Cause.MATCH: 1}


def test_every_cause_has_a_meaning_and_what_is_not_named_otherwise_is_skew() -> None:
    assert set(MEANING) == set(Cause)
    guide = (Path(__file__).parents[2] / "docs/features/replay.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \| \W*(\w+)\W* \|", guide, re.MULTILINE)
    assert told == [(cause.value, cause.kind.value) for cause in Cause]
    assert {cause for cause in Cause if cause.kind is Kind.SKEW} == {
        Cause.MISSING_USER, Cause.FUTURE_EVENT, Cause.UNKNOWN_ITEM, Cause.EXTRA_EVENT,
        Cause.LATE_EVENT, Cause.ORDER, Cause.TRUNCATED, Cause.NOT_MATERIALISED, Cause.UNEXPLAINED,
    }  # fmt: skip
