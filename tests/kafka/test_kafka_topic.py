"""`kuberec events follow --topic` on a real broker: kills of either side, consumers of a group."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from feature_stores import redis_server, redis_store
from kafka_server import KafkaServer, kafka_server
from live_consumer import Consumer, Store, text, until

from feature_repo.live.sources.kafka_topic import KafkaTopic
from feature_repo.store import SETTINGS_VARIABLE, store_folder

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with kafka_server(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def redis_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path / "home"
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as redis:
        settings = redis_store(store_folder(home), redis.port)
        monkeypatch.setenv("KUBEREC_HOME", str(home))
        monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
        yield home


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
