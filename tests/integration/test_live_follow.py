"""`kuberec events follow`: a file, a real Kafka topic, kills, a store that is gone."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feature_stores import RedisServer, redis_server, redis_store, sqlite_store
from kafka_server import KafkaServer, kafka_server
from live_log import START_US, fields

from feature_repo.live.histories import VIEW
from feature_repo.live.rows import entries_of
from feature_repo.live.sources.kafka_topic import KafkaTopic, read_properties
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder
from feature_repo.stores.open import open_rows
from recommender.errors import KuberecError
from serving.ports import free_ports

pytestmark = pytest.mark.timeout(240)
KUBEREC = Path(sys.executable).parent / "kuberec"


class Consumer:
    """A process that follows; what it says goes to a file."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.log = home / "follow.log"
        self._arguments = [str(KUBEREC), "events", "follow", "--user-ids", "stored", *arguments]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._arguments, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def until(
    condition: Callable[[], bool], seconds: float = 60, consumer: Consumer | None = None
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        said = consumer.log.read_text() if consumer else ""
        assert time.monotonic() < end, said
        time.sleep(0.02)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with kafka_server(tmp_path_factory.mktemp("kafka")) as server:
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


class Store:
    def __init__(self, home: Path) -> None:
        self._rows = open_rows(open_store(store_folder(home)), VIEW)

    def items(self, user: str) -> list[str]:
        return [each.item for each in entries_of(self._rows.read([user])[0])[0]]


def text(user: str, number: int) -> str:
    return json.dumps(fields(user, f"i{number}", START_US + number))


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


def test_a_topic_over_kills_of_consumer_and_broker(
    redis_home: Path, kafka: KafkaServer, tmp_path: Path
) -> None:
    store, topic = Store(redis_home), "clicks"
    (tmp_path / "client").write_text("session.timeout.ms=6000\n")
    options = ("--brokers", kafka.brokers, "--kafka-properties", str(tmp_path / "client"))
    consumer = Consumer(redis_home, "--topic", topic, *options)
    until(lambda: consumer.said("is waited for"), consumer=consumer)  # there is no topic yet
    kafka.topic(topic)
    expected = []
    for number in range(0, 60, 2):  # two partitions, in no order between them
        kafka.send(topic, text("kafka", number + 1), text("kafka", number), None, "nonsense")
        expected += [f"i{number}", f"i{number + 1}"]
        if number == 20:
            until(lambda: len(store.items("kafka")) > 10, consumer=consumer)
            consumer.kill()
            consumer.start()
        if number == 40:
            kafka.kill()
            kafka.start()
    until(lambda: store.items("kafka") == expected, consumer=consumer)
    assert consumer.end() == 0
    rejects = (redis_home / "live" / "rejects.jsonl").read_text().splitlines()
    places = {json.loads(line)["place"] for line in rejects}
    assert len(places) == 60
    assert {json.loads(line)["reason"] for line in rejects} == {"not JSON", "not a JSON object"}


def test_two_consumers_of_one_group_share_the_partitions(kafka: KafkaServer) -> None:
    topic = kafka.topic("shared", 4)
    first = KafkaTopic(topic, kafka.brokers, "pair")
    found: list[str] = []

    def take(*sources: KafkaTopic) -> int:
        """How many different messages there were so far."""
        for source in sources:
            found.extend(line.text.decode() for line in source.poll(0.05, 100))
            source.commit()
        return len(set(found))

    def send(numbers: range) -> None:
        kafka.send(topic, *map(str, numbers))

    send(range(20))
    until(lambda: take(first) == 20)
    second = KafkaTopic(topic, kafka.brokers, "pair")
    until(lambda: take(first, second) == 20 and second.unread() is not None)
    first.idle()  # as while the store is down
    send(range(20, 60))
    until(lambda: (first.unread() or (0,))[0] > 0)
    first.idle()
    until(lambda: take(first, second) == 60)
    second.close()  # its partitions come back
    send(range(60, 80))
    until(lambda: take(first) == 80)
    assert sorted(found, key=int) == [str(number) for number in range(80)]  # without kills, once
    until(lambda: take(first) == 80 and first.unread() == (0, "messages"))
    first.close()
    again = KafkaTopic(topic, kafka.brokers, "pair")
    assert again.poll(3.0, 10) == []
    again.close()


def test_settings_of_a_client_that_cannot_be(kafka: KafkaServer, tmp_path: Path) -> None:
    with pytest.raises(KuberecError, match=r"group\.id cannot be set there"):
        KafkaTopic("t", kafka.brokers, properties={"group.id": "x"})
    with pytest.raises(KuberecError, match=r'property: "sasl\.pasword"'):
        KafkaTopic("t", kafka.brokers, properties={"sasl.pasword": "x"})
    path = tmp_path / "client.properties"
    path.write_text("# ours\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\n")
    assert read_properties(path) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
    path.write_text("secret")
    with pytest.raises(KuberecError, match="line 1: not of the form name=value") as caught:
        read_properties(path)
    assert "secret" not in str(caught.value)
