"""Lines to live events to histories: what is read, what is let in, what became of each."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from feature_repo.live.events import Event, NotAnEvent, read_event
from feature_repo.live.outcomes import APPLIED, REFUSED, Tally
from feature_repo.live.rejects import Reject, Rejects
from feature_repo.live.times import TimeRule

MAX_AHEAD_S = 300.0
FUTURE = "in the future"


class Line(NamedTuple):
    """One event as it came."""

    text: bytes
    place: str  # where from, for people


class Dropped(NamedTuple):
    """An event that does not go into a history."""

    outcome: str
    reason: str


class Rules(Protocol):
    """What a source's run says of its events."""

    def admit(self, event: Event) -> Event | Dropped:
        """The event as the store knows it (its user by a pseudonym), or why not."""

    def may_keep(self, fields: Mapping[str, Any] | None, line: bytes) -> Any:
        """What rejects may hold of a line: an object, a text, or None for nothing of it.

        Args:
            fields: the line's object, if it is one.
        """


class OpenRules:
    """For a store whose source says nothing: every event is let in as it is."""

    def admit(self, event: Event) -> Event | Dropped:
        return event

    def may_keep(self, fields: Mapping[str, Any] | None, line: bytes) -> Any:
        return fields if fields is not None else line.decode("utf-8", errors="backslashreplace")


class Histories(Protocol):
    """Of feature_repo.live.histories.LiveHistories."""

    def apply(self, events: Sequence[Event]) -> Any: ...


class Intake:
    """Takes lines in; the same lines again change nothing, whole or in part.

    Args:
        max_ahead_s: how far ahead of this machine's clock an event may be. What is farther is
            refused, since it would be every later event's "newer one" until its time comes. What is
            nearer is taken as it is: with its time changed it would be another event than the one
            that the next ingestion reads.
    """

    def __init__(
        self,
        histories: Histories,
        rejects: Rejects | None,
        rules: Rules | None = None,
        times: TimeRule | None = None,
        max_ahead_s: float = MAX_AHEAD_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._histories = histories
        self._rejects = rejects
        self._rules = rules or OpenRules()
        self._times = times or TimeRule()
        self._max_ahead_s = max_ahead_s
        self._clock = clock

    def take(self, lines: Sequence[Line]) -> Tally:
        """What became of the lines. Blank ones are none.

        Raises:
            StoreDown: nothing is lost: take the same lines again.
            KuberecError: rejects cannot be written, or there is no store.
        """
        tally = Tally()
        events: list[Event] = []
        rejects: list[Reject] = []
        latest_us = int((self._clock() + self._max_ahead_s) * 1e6)
        for line in lines:
            if not line.text.strip():
                continue
            found = self._read(line.text, latest_us)
            if isinstance(found, Event):
                events.append(found)
                continue
            dropped, content = found
            tally.add(dropped.outcome, dropped.reason)
            if dropped.outcome == REFUSED:
                rejects.append(Reject(dropped.reason, line.place, content))
        if events:
            applied = self._histories.apply(events)
            tally.untimed += applied.untimed
            for event, outcome in zip(events, applied.outcomes, strict=True):
                tally.add(outcome)
                if outcome == APPLIED:
                    tally.seen(event.time_us)
        # Last, so that lines that are taken again leave their rejects once.
        if self._rejects is not None:
            self._rejects.add(rejects)
        return tally

    def _read(self, text: bytes, latest_us: int) -> Event | tuple[Dropped, Any]:
        """An event that is let in, or why not and what may be kept of it."""
        try:
            event = read_event(text, self._times)
        except NotAnEvent as error:
            return Dropped(REFUSED, str(error)), self._rules.may_keep(error.fields, text)
        found = self._rules.admit(event)
        if isinstance(found, Event) and found.time_us > latest_us:
            found = Dropped(
                REFUSED, f"{FUTURE}: more than {self._max_ahead_s:g} s ahead of the clock here"
            )
        if isinstance(found, Event):
            return found
        keep = self._rules.may_keep(event.fields, text) if found.outcome == REFUSED else None
        return found, keep


def line_of(fields: Mapping[str, Any], place: str) -> Line:
    """An object as a line."""
    return Line(json.dumps(fields).encode(), place)
