"""Where live events come from: what a consumer needs of a source."""

from typing import NamedTuple, Protocol

from feature_repo.live.intake import Line


class Unread(NamedTuple):
    """How much a source has that was not polled yet."""

    amount: int
    unit: str  # "bytes", "messages"


class EventSource(Protocol):
    """Lines in order, and how far they were used; for one thread.

    At least once: what was polled and not committed comes again after a restart. Merging events
    twice changes nothing, so that is exact.
    """

    name: str  # for people: "file 'events.jsonl'", "topic 'clicks' of broker:9092"

    def poll(self, timeout_s: float, most: int) -> list[Line]:
        """The next lines, `most` at most; [] where none came within the time.

        Raises:
            KuberecError: the source cannot be read at all, and waiting will not help.
        """

    def commit(self) -> None:
        """All that was polled is in the store, or among the rejects."""

    def idle(self) -> None:
        """The store is down, and nothing is polled meanwhile: stay a reader of this source."""

    def unread(self) -> Unread | None:
        """None where it is not known."""

    def trouble(self) -> str | None:
        """What is wrong with the source at present, while waiting for it; None: nothing."""

    def close(self) -> None:
        """Leave; what was committed stays so."""
