"""What a consumer of live events counts: Prometheus metrics, in a registry of their own."""

from typing import Any

from feature_repo.live.outcomes import OUTCOMES, Tally
from feature_repo.live.sources.base import Unread
from recommender.errors import KuberecError


class LiveMetrics:
    """Series are there, at 0, before anything happens: `increase` misses nothing then."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self._events = Counter(
            "kuberec_live_events", "Live events, by what became of them", ["outcome"], **own
        )
        for outcome in OUTCOMES:
            self._events.labels(outcome)
        self._lag = Gauge(
            "kuberec_live_lag_seconds",
            "Since all events that had come were in the online store; 0 while they are",
            **own,
        )
        self._unread = Gauge(
            "kuberec_live_unread", "What the source has that was not read yet", ["unit"], **own
        )
        self._last = Gauge(
            "kuberec_live_last_event_timestamp_seconds",
            "Time of the newest event that went into a history, Unix time",
            **own,
        )
        self._store = Gauge(
            "kuberec_live_store_up", "Whether the online store took the latest events", **own
        )
        self._store.set(1)
        self._seconds = Histogram(
            "kuberec_live_apply_seconds",
            "Of a batch of events, until the online store has them",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            **own,
        )

    def serve(self, port: int) -> None:
        """Answer /metrics on all addresses of this machine, from a thread of its own.

        Raises:
            KuberecError: the port is taken.
        """
        from prometheus_client import start_http_server

        try:
            start_http_server(port, registry=self.registry)
        except OSError as error:
            raise KuberecError(
                f"metrics cannot be served on port {port} ({error.strerror}): choose another "
                "--metrics-port"
            ) from error

    def applied(self, tally: Tally, seconds: float) -> None:
        for outcome in OUTCOMES:
            self._events.labels(outcome).inc(tally.outcomes[outcome])
        if tally.last_us is not None:
            self._last.set(tally.last_us / 1e6)
        self._seconds.observe(seconds)
        self._store.set(1)

    def store_down(self) -> None:
        self._store.set(0)

    def behind(self, lag_s: float, unread: Unread | None) -> None:
        self._lag.set(lag_s)
        if unread is not None:
            self._unread.labels(unread.unit).set(unread.amount)
