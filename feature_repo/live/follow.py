"""The streaming consumer: from a source into histories, until it is told to stop.

Nothing is dropped. While the online store is down the same events are tried again, ever more
slowly, and no more are read: they wait in the source.
"""

import threading
import time
from collections.abc import Callable

from feature_repo.live.intake import Intake, Line
from feature_repo.live.metrics import LiveMetrics
from feature_repo.live.outcomes import Tally
from feature_repo.live.sources.base import EventSource
from feature_repo.stores.base import StoreDown

MOST = 1000  # events of a batch
_POLL_S = 0.2  # how soon a stop is noticed
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0  # between tries while the store is down
_SAY_S = 30.0  # between two lines that say how it goes


class Follower:
    """One run of a consumer.

    Args:
        say: prints a line for people.
        stop: set from elsewhere (a signal) to end it after the batch at hand.
    """

    def __init__(
        self,
        source: EventSource,
        intake: Intake,
        stop: threading.Event,
        say: Callable[[str], None],
        metrics: LiveMetrics | None = None,
    ) -> None:
        self._source = source
        self._intake = intake
        self._stop = stop
        self._say = say
        self._metrics = metrics
        self._trouble: str | None = None
        self._said_at = time.monotonic()
        self._caught_up_at = time.monotonic()
        self._recent = Tally()  # since the last line
        self.total = Tally()

    def run(self) -> Tally:
        """Until `stop`; what became of all events.

        Raises:
            KuberecError: the source cannot be read, rejects cannot be written. What was polled and
                is not in the store was not committed: it comes again.
        """
        self._say(f"following {self._source.name}")
        while not self._stop.is_set():
            lines = self._source.poll(_POLL_S, MOST)
            if lines:
                tally = self._take(lines)
                if tally is None:
                    break
                self.total.update(tally)
                self._recent.update(tally)
            self._source.commit()
            self._report(lines)
        return self.total

    def _take(self, lines: list[Line]) -> Tally | None:
        """What became of the lines; None where the store was down until the end."""
        pause = _FIRST_PAUSE_S
        down_since = None
        while True:
            started = time.monotonic()
            try:
                tally = self._intake.take(lines)
            except StoreDown as error:
                if self._metrics:
                    self._metrics.store_down()
                if down_since is None:
                    down_since = started
                    self._say(f"{error}. Nothing is lost: trying until it does")
                    self._said_at = time.monotonic()
                self._report_lag()
                if self._wait(pause):
                    self._say(
                        f"stopped while the online store was down: {len(lines):,} events are not "
                        "in it, and are read again by the next start"
                    )
                    return None
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            if self._metrics:
                self._metrics.applied(tally, time.monotonic() - started)
            if down_since is not None:
                self._say(f"the online store is back after {time.monotonic() - down_since:.0f} s")
            return tally

    def _wait(self, seconds: float) -> bool:
        """Whether to stop. The source is attended to meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._stop.wait(min(left, 1.0)):
                return True
            self._source.idle()
        return self._stop.is_set()

    def _report_lag(self) -> float:
        lag_s = time.monotonic() - self._caught_up_at
        unread = self._source.unread()
        if self._metrics:
            self._metrics.behind(lag_s, unread)
        if time.monotonic() - self._said_at >= _SAY_S:
            self._said_at = time.monotonic()
            behind = f", {unread.amount:,} {unread.unit} unread" if unread else ""
            self._say(f"{lag_s:.0f} s behind{behind}")
        return lag_s

    def _report(self, lines: list[Line]) -> None:
        unread = self._source.unread()
        if len(lines) < MOST or (unread is not None and unread.amount == 0):
            self._caught_up_at = time.monotonic()
        lag_s = time.monotonic() - self._caught_up_at
        if self._metrics:
            self._metrics.behind(lag_s, unread)
        trouble = self._source.trouble()
        if trouble != self._trouble:
            self._trouble = trouble
            self._say(trouble or f"{self._source.name} is there")
        if self._recent.total and time.monotonic() - self._said_at >= _SAY_S:
            behind = f", {lag_s:.0f} s behind" if lag_s >= 1 else ""
            self._say(f"{self._recent}{behind}")
            self._recent = Tally()
            self._said_at = time.monotonic()
