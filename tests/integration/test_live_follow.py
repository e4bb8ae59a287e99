"""`kuberec events follow`: a file, kills, a store that is gone. Of Kafka see tests/kafka."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from feature_stores import RedisServer, redis_server, redis_store, sqlite_store
from live_consumer import Consumer, Store, text, until
from live_log import START_US

from feature_repo.store import SETTINGS_VARIABLE, store_folder
from serving.ports import free_ports

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def sqlite_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path / "home"))
    sqlite_store(store_folder(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def redis_home(tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    settings = redis_store(store_folder(home), redis.port)
    monkeypatch.setenv("KUBEREC_HOME", str(home))
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    return home


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_a_killed_consumer_of_a_file_loses_nothing(sqlite_home: Path, tmp_path: Path) -> None:
    events, store = tmp_path / "events.jsonl", Store(sqlite_home)
    consumer = Consumer(sqlite_home, str(events))
    expected = []
    for number in range(150):
        append(events, text("file", number))
        expected.append(f"i{number}")
        if number in (50, 100):
            enough = number - 40
            until(lambda n=enough: len(store.items("file")) > n, consumer=consumer)
            consumer.kill()
            if number == 100:
                events.rename(events.with_name("events.jsonl.1"))
            consumer.start()
    until(lambda: store.items("file") == expected, consumer=consumer)
    append(events, "not an event", text("file", 150))
    until(lambda: len(store.items("file")) == 151, consumer=consumer)
    assert consumer.end() == 0
    assert consumer.said("1 refused")
    (reject,) = (sqlite_home / "live" / "rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["event"] == "not an event"


def test_while_the_store_is_down_events_wait(
    redis_home: Path, redis: RedisServer, tmp_path: Path
) -> None:
    events, store = tmp_path / "events.jsonl", Store(redis_home)
    (port,) = free_ports(1)
    consumer = Consumer(redis_home, str(events), "--metrics-port", str(port))

    def metric(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])

    append(events, text("down", 0))
    until(lambda: store.items("down") == ["i0"], consumer=consumer)
    until(lambda: metric('kuberec_live_events_total{outcome="applied"}') == 1)
    assert metric("kuberec_live_last_event_timestamp_seconds") == START_US / 1e6
    redis.kill()
    append(events, text("down", 1), text("down", 2))
    until(lambda: consumer.said("Nothing is lost"), consumer=consumer)
    assert metric("kuberec_live_store_up") == 0
    until(lambda: metric("kuberec_live_lag_seconds") > 0.5)
    redis.start()
    until(lambda: store.items("down") == ["i0", "i1", "i2"], consumer=consumer)
    until(lambda: metric("kuberec_live_store_up") == 1)
    until(lambda: metric("kuberec_live_lag_seconds") < 0.5)
    assert consumer.said("is back after")
    redis.kill()
    append(events, text("down", 3))
    until(lambda: consumer.log.read_text().count("Nothing is lost") == 2, consumer=consumer)
    assert consumer.end() == 0
    assert consumer.said("1 events are not in it, and are read again by the next start")
    redis.start()
    consumer.start()
    until(lambda: store.items("down") == ["i0", "i1", "i2", "i3"], consumer=consumer)
    assert consumer.end() == 0
