"""A topic of Kafka, or of anything that speaks its protocol, read by a consumer group.

An offset is stored once its event is in the online store; librdkafka commits what is stored every
second, when partitions are given away, and at the end. So a killed consumer, or one whose
partitions another takes over, leaves nothing out, and what is read twice changes nothing.
"""

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feature_repo.live.intake import Line
from feature_repo.live.sources.base import Unread
from recommender.errors import KuberecError

DEFAULT_GROUP = "kuberec-live"
_ASK_S = 1.0
_TROUBLE_S = 15.0  # librdkafka tries again, and says again, at least that often
# Ours, because what is promised here depends on them.
_FIXED = {
    "enable.auto.offset.store": "false",
    "enable.auto.commit": "true",
    "auto.commit.interval.ms": "1000",
    "enable.partition.eof": "false",
}
_DEFAULTS = {
    "client.id": "kuberec",
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": "10000",  # so long the partitions of one that was killed stand still
    "fetch.wait.max.ms": "100",
    "topic.metadata.refresh.interval.ms": "10000",  # a topic that is still to be made is found
    "allow.auto.create.topics": "false",
}


class KafkaTopic:
    """See feature_repo.live.sources.base.EventSource. Messages' values are lines, keys are unused.

    Events of one user may lie in any partitions: their order is their times'.
    """

    def __init__(
        self,
        topic: str,
        brokers: str,
        group: str = DEFAULT_GROUP,
        from_end: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        """Join the group. The broker is waited for.

        Args:
            topic: its name.
            brokers: host:port, several with commas.
            group: consumers of one group share the topic's partitions.
            from_end: where the group has no offset yet: begin with what comes from now on.
            properties: further settings of librdkafka: security.protocol, sasl.mechanism, ….

        Raises:
            KuberecError: confluent-kafka is not installed; a setting is wrong, or is ours to set.
        """
        try:
            import confluent_kafka
        except ImportError as error:
            raise KuberecError(
                "reading a Kafka topic needs the package confluent-kafka: install it here "
                "(`make install` does)"
            ) from error
        self._kafka: Any = confluent_kafka
        given = dict(properties or {})
        if ours := sorted(set(given) & {*_FIXED, "bootstrap.servers", "group.id"}):
            raise KuberecError(
                f"Kafka properties: {', '.join(ours)} cannot be set there; brokers and group are "
                "options of the command, and how offsets are committed is what makes it exact"
            )
        self.name = f"topic '{topic}' of {brokers}"
        self._topic = topic
        self._trouble: str | None = None
        self._trouble_at = 0.0
        self._paused = False
        self._waiting: deque[Any] = deque()  # came while nobody polled
        self._polled: dict[int, int] = {}  # partition: offset behind the last message polled
        settings = {
            **_DEFAULTS,
            "auto.offset.reset": "latest" if from_end else "earliest",
            **given,
            **_FIXED,
            "bootstrap.servers": brokers,
            "group.id": group,
            "error_cb": self._on_error,
            "logger": _quiet(),
        }
        try:
            self._consumer = confluent_kafka.Consumer(settings)
            self._consumer.subscribe([topic])
        except (confluent_kafka.KafkaException, ValueError, TypeError) as error:
            raise KuberecError(f"{self.name}: {_reason(error)}") from error

    def poll(self, timeout_s: float, most: int) -> list[Line]:
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        messages: list[Any] = []
        while self._waiting and len(messages) < most:
            messages.append(self._waiting.popleft())
        if not messages:
            first = self._consumer.poll(timeout_s)
            messages += [] if first is None else [first]
        if messages and len(messages) < most:
            messages += self._consumer.consume(most - len(messages), 0)
        lines = []
        for message in messages:
            if self._is_message(message):
                place = f"{self._topic}[{message.partition()}]@{message.offset()}"
                lines.append(Line(message.value() or b"null", place))
                self._polled[message.partition()] = message.offset() + 1
        return lines

    def _is_message(self, message: Any) -> bool:
        error = message.error()
        if error is None:
            self._trouble = None
            return True
        if error.fatal() or error.code() in (
            self._kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED,
            self._kafka.KafkaError.GROUP_AUTHORIZATION_FAILED,
        ):
            raise KuberecError(f"{self.name}: {error.str()}")
        self._on_error(error)
        return False

    def commit(self) -> None:
        for partition, offset in self._polled.items():
            place = self._kafka.TopicPartition(self._topic, partition, offset)
            # No longer ours: who has it now reads these again.
            with contextlib.suppress(self._kafka.KafkaException):
                self._consumer.store_offsets(offsets=[place])
        self._polled.clear()

    def idle(self) -> None:
        """Stay in the group without taking more: who does not poll loses his partitions."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        # Paused, it has nothing to give, save of a partition that came this very moment.
        message = self._consumer.poll(0)
        if message is not None:
            self._waiting.append(message)

    def unread(self) -> Unread | None:
        """By what the broker said last; None before it has given us partitions."""
        behind = len(self._waiting)
        try:
            places = self._consumer.position(self._consumer.assignment())
            for place in places:
                # Who fetches knows; who has paused has to ask.
                low, high = self._consumer.get_watermark_offsets(
                    place, timeout=_ASK_S, cached=not self._paused
                )
                if high >= 0:
                    behind += high - (place.offset if place.offset >= 0 else max(low, 0))
        except self._kafka.KafkaException:
            return None
        return Unread(max(0, behind), "messages") if places else None

    def trouble(self) -> str | None:
        if time.monotonic() - self._trouble_at > _TROUBLE_S:
            self._trouble = None  # it would have been said again
        return self._trouble

    def close(self) -> None:
        self._consumer.close()  # commits what is stored, and leaves the group

    def _on_error(self, error: Any) -> None:
        text = error.str() if hasattr(error, "str") else str(error)
        self._trouble_at = time.monotonic()
        self._trouble = f"{self.name} is waited for: {text}"


def read_properties(path: Path) -> dict[str, str]:
    """A client's properties: `name=value` a line, # begins a comment.

    Raises:
        KuberecError: it cannot be read, or a line is none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise KuberecError(f"Kafka properties '{path}' cannot be read: {error}") from error
    properties = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():  # the line itself may be a secret
            raise KuberecError(f"'{path}', line {number}: not of the form name=value")
        properties[name.strip()] = value.strip()
    return properties


def _quiet() -> Any:
    """A logger of librdkafka's own lines, which say again what errors say."""
    import logging

    logger = logging.getLogger("kuberec.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def _reason(error: Exception) -> str:
    found = error.args[0] if error.args else error
    return found.str() if hasattr(found, "str") else str(found)
