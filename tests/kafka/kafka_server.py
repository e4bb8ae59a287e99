"""A real Kafka broker, of Apache's own jars, on ports of this machine."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from serving.ports import free_ports

JARS = Path(__file__).parents[2] / ".kafka"  # `make test-kafka` fills it
_JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


class KafkaServer:
    """One broker that is its own controller; it keeps its topics over a kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._producer: Producer | None = None
        port, controller = free_ports(2)
        self.brokers = f"127.0.0.1:{port}"
        self._settings = folder / "server.properties"
        self._settings.write_text(
            "process.roles=broker,controller\n"
            "node.id=1\n"
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
            "controller.listener.names=CONTROLLER\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n"
            f"log.dirs={folder}/data\n"
            "offsets.topic.replication.factor=1\n"
            "offsets.topic.num.partitions=1\n"
            "group.initial.rebalance.delay.ms=0\n"
            "auto.create.topics.enable=false\n"
        )
        identity = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "--standalone", "-c", str(self._settings)]
        self._java("kafka.tools.StorageTool", "format", *identity).wait(60)
        self.start()

    def _java(self, main: str, *arguments: str) -> "subprocess.Popen[bytes]":
        log = (self._folder / "server.log").open("ab")
        command = [*_JAVA, "-cp", f"{JARS}/*", main, *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def start(self) -> None:
        self.process = self._java("kafka.Kafka", str(self._settings))
        deadline = time.monotonic() + 60
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        while True:
            try:
                admin.list_topics(timeout=1)
                return
            except KafkaException:
                log = self._folder / "server.log"
                assert self.process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, "the broker does not answer"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def topic(self, name: str, partitions: int = 2) -> str:
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        (made,) = admin.create_topics([NewTopic(name, partitions, 1)]).values()
        made.result(30)
        return name

    def send(self, topic: str, *values: str | bytes | None, key: str | None = None) -> None:
        if self._producer is None:
            settings = {"bootstrap.servers": self.brokers, "linger.ms": 0, "log_level": 0}
            self._producer = Producer(settings)
        for value in values:
            self._producer.produce(topic, value, key=key)
        assert self._producer.flush(30) == 0


@contextmanager
def kafka_server(folder: Path) -> Iterator[KafkaServer]:
    """Ended with the block."""
    server = KafkaServer(folder)
    try:
        yield server
    finally:
        server.kill()
