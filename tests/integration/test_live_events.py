"""Live events in SQLite, Redis and PostgreSQL: any order, any writer, within a second."""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_stores import (
    SERVICE,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_homes import KINDS, LENGTH, Home, live_home
from live_log import START_US, Sent, by_hand, deliveries, fields, lines, logs
from small_windows import timelines, write_events

from feature_repo.config import FeatureConfig
from feature_repo.live.histories import LiveHistories
from feature_repo.live.intake import Intake, line_of
from feature_repo.live.origin import read_origin
from feature_repo.live.rows import entries_of
from feature_repo.materialize.home import materialize
from feature_repo.offline.build import build_features
from feature_repo.online.histories import online_histories
from feature_repo.online.reader import OnlineReader
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder
from ingestion.ingest import ingest
from ingestion.privacy.pseudonyms import pseudonym
from ingestion.sources import SourceConfig
from pipelines.events.opening import source_rules
from recommender.files import read_json, write_json

pytestmark = pytest.mark.timeout(180)
KUBEREC = Path(sys.executable).parent / "kuberec"


@pytest.fixture(scope="module", params=KINDS)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    with live_home(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


_prefixes = itertools.count()


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data(), logs(), st.integers(1, 7))
def test_any_order_and_duplicates_end_in_the_same_histories(
    home: Home, data: st.DataObject, log: list[Sent], length: int
) -> None:
    expected = by_hand(log, length)
    stores = []
    for batches in ([log], data.draw(deliveries(log))):  # in order, and as it may come
        prefix = f"{next(_prefixes)}-"
        with home.histories(length) as histories:
            for batch in batches:
                own = [Sent((prefix + user, *rest)) for user, *rest in batch]
                Intake(histories, None).take(lines(own))
        rows = home.stored([prefix + user for user in expected])
        assert [entries_of(row)[0] for row in rows.values()] == list(expected.values())
        stores.append(list(rows.values()))
    assert stores[0] == stores[1]


def test_histories_end_as_the_offline_tables_have_them(home: Home, tmp_path: Path) -> None:
    from feature_repo.offline.write import write_windows
    from recommender.engines.duckdb import DuckDBTables

    users = [f"off{n}" for n in range(4)]
    chance = random.Random(8)
    log = [
        (chance.choice(users), f"i{chance.randrange(5)}", chance.randrange(12) * 400_000, place)
        for place in range(150)
    ]
    config = FeatureConfig(k_core=3, history_length=9)
    (tmp_path / "engine").mkdir()
    engine = DuckDBTables(config.engine, tmp_path / "engine")
    try:
        snapshot = write_events(tmp_path / "snapshot", log)
        write_json(snapshot / "snapshot.json", {"source": {"name": "Shop"}, "user_key": "1f0c22ab"})
        write_windows(engine, snapshot, config, tmp_path / "out")
        table = engine.parquet(tmp_path / "out" / "offline" / "user_history.parquet")
        latest = {
            row["user_id"]: row for row in table.order_by("event_time").to_pyarrow().to_pylist()
        }
    finally:
        engine.close()
    said = read_origin(tmp_path / "out" / "offline")
    assert said is not None
    assert (said["name"], said["user_key"]) == ("Shop", "1f0c22ab")
    sent = [
        Sent((user, each.item, each.time, each.rank))
        for user, line in timelines(log).items()
        for each in line
    ]
    chance.shuffle(sent)
    with home.histories(9) as histories:
        for start in range(0, len(sent), 7):
            Intake(histories, None).take(lines(sent[start : start + 7]))
    for user, row in home.stored(users).items():
        offline = latest[user]
        assert [each.item for each in entries_of(row)[0]] == offline["history"]
        assert [each.time_us for each in entries_of(row)[0]] == offline["history_times"]
        assert [each.rank for each in entries_of(row)[0]] == offline["history_ranks"]
        assert row.values["event_count"].int64_val == offline["event_count"]
        last = int(offline["last_event_time"].timestamp())
        assert row.values["last_event_time"].unix_timestamp_val == last


def test_an_older_event_never_takes_the_place_of_a_newer_one(home: Home) -> None:
    """With Feast's own push it does, on SQLite."""
    with home.histories() as histories:
        intake = Intake(histories, None)
        intake.take(lines([Sent(("keep", "newer", START_US + 10, 0))]))
        intake.take(lines([Sent(("keep", "older", START_US, 0))]))
    assert home.read("keep") == {"keep": ["older", "newer"]}
    row = home.stored(["keep"])["keep"]
    assert row.values["event_count"].int64_val == 2


def test_an_event_is_read_by_the_endpoint_within_a_second(home: Home) -> None:
    async def measure() -> list[float]:
        reader = OnlineReader(home.store, SERVICE)
        seconds = []
        with home.histories() as histories:
            intake = Intake(histories, None)
            for number in range(20):
                started = time.perf_counter()
                intake.take(lines([Sent(("soon", f"i{number}", START_US + number, 0))]))
                (found,) = await reader.read(["soon"])
                seconds.append(time.perf_counter() - started)
                assert found.history[-1] == f"i{number}"
        await reader.close()
        return seconds

    assert max(asyncio.run(measure())[1:]) < 1


def kuberec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(KUBEREC), *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("home", ["sqlite"], indirect=True)
def test_the_command_takes_a_file_and_keeps_what_it_refuses(home: Home, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    good = [json.dumps(fields("cli", f"i{n}", START_US + n)) for n in (3, 1, 2, 1)]
    events.write_text("\n".join([good[0], "not json", *good[1:], '{"user_id": "cli"}']))
    done = kuberec("events", "push", str(events), "--user-ids", "stored")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 events: 3 applied, 1 duplicate, 2 refused" in done.stdout
    rejects = home.home / "live" / "rejects.jsonl"
    assert f"2 of 6 events were refused: they are in '{rejects}'" in " ".join(done.stderr.split())
    kept = [json.loads(line) for line in rejects.read_text().splitlines()][-2:]
    assert [(each["place"], each["reason"]) for each in kept] == [
        ("events.jsonl:2", "not JSON"),
        ("events.jsonl:6", "missing item_id"),
    ]
    assert home.read("cli") == {"cli": ["i1", "i2", "i3"]}


def test_a_consumer_sees_that_a_history_is_shorter_now(home: Home) -> None:
    """Materialisation registers the view anew, with the length that holds from then on."""
    about = store_folder(home.home) / "offline" / "offline.json"
    with LiveHistories(home.home, recheck_s=0.0) as histories:
        histories.apply([])
        assert histories.length == LENGTH
        write_json(about, {"history_length": 2, "covered_until_us": 0})
        try:
            from feature_repo.views import user_history

            store = open_store(store_folder(home.home))
            store.apply([user_history(about.parent)])
            sent = [Sent(("short", f"i{n}", START_US + n, 0)) for n in range(4)]
            Intake(histories, None).take(lines(sent))
            assert histories.length == 2
            assert home.read("short") == {"short": ["i2", "i3"]}
        finally:
            assert read_json(about)["history_length"] == 2
            about.unlink()


def test_a_runs_source_is_what_its_live_events_are_treated_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of pseudonyms and the filters travel with the data into the store."""
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    monkeypatch.setenv("SHOP_KEY", "k" * 32)
    users, items = [f"u{n}" for n in range(4)], [f"i{n}" for n in range(5)]
    (tmp_path / "items.csv").write_text("id,t\n" + "".join(f"{i},Title {i}\n" for i in items))
    events = [
        f"{user},{item},{1_700_000_000 + n},{'hover' if item == 'i0' else 'view'}\n"
        for user in users
        for n, item in enumerate(items)
    ]
    (tmp_path / "events.csv").write_text("uid,iid,ts,action\n" + "".join(events))
    columns = {"user_id": "uid", "item_id": "iid", "timestamp": "ts", "event_type": "action"}
    csv = {"format": "csv"}
    source = SourceConfig.model_validate(
        {
            "name": "Shop",
            "privacy": {"user_key_env": "SHOP_KEY"},
            "events": csv
            | {"path": str(tmp_path / "events.csv"), "columns": columns}
            | {"filters": [{"column": "action", "equals": "view"}]},
            "items": csv
            | {"path": str(tmp_path / "items.csv"), "columns": {"item_id": "id", "title": "t"}},
        }
    )
    ingest(source, tmp_path / "snapshot")
    vectors = pa.array([[1.0, 0.0]] * len(items), pa.list_(pa.float32()))
    (tmp_path / "vectors").mkdir()
    table = pa.table({"item_id": items, "vector": vectors})
    pq.write_table(table, tmp_path / "vectors" / "vectors.parquet")
    config = FeatureConfig(k_core=3)
    build_features(tmp_path / "snapshot", tmp_path / "vectors", config, tmp_path / "windows")
    materialize(tmp_path / "windows", tmp_path / "home", "v1")

    rules = source_rules(tmp_path / "home", None, "source", ())
    with LiveHistories(tmp_path / "home") as histories:
        sent = [
            dict(fields("u1", item, START_US + n)) | {"event_type": kind}
            for n, (item, kind) in enumerate([("i0", "view"), ("i1", "hover"), ("i2", "view")])
        ]
        tally = Intake(histories, None, rules).take([line_of(each, "") for each in sent])
    assert str(tally) == "3 events: 2 applied, 1 filtered"
    hidden = pseudonym("u1", b"k" * 32)
    expected = {hidden: ["i1", "i2", "i3", "i4", "i0", "i2"], "u1": []}
    assert online_histories(tmp_path / "home", [hidden, "u1"]) == expected
