"""What is known of two versions over the same time: live traffic, and answers side by side."""

import bisect
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from recommender.errors import KuberecError


class MetricsUnavailable(KuberecError):
    """Numbers that cannot be read now; says from where, and why."""


class Histogram(NamedTuple):
    """Durations in seconds by bucket.

    Attributes:
        bounds: upper ends of the buckets, ascending; the last is infinity.
        counts: in each bucket (not cumulative). Prometheus's `increase` makes them fractions.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.counts)

    def quantile(self, q: float) -> float | None:
        """As Prometheus's histogram_quantile: linear within a bucket. None without any."""
        if self.total <= 0:
            return None
        wanted, below, lower = q * self.total, 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if below + count >= wanted and count > 0:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - below) / count
            below += count
            lower = bound if bound != float("inf") else lower
        return lower

    def surely_beyond(self, seconds: float) -> float:
        """How many took longer whatever is true of the bucket in which `seconds` lies."""
        lower = (0.0, *self.bounds)
        return sum(
            count
            for begin, count in zip(lower[: len(self.counts)], self.counts, strict=True)
            if begin >= seconds
        )

    def beyond(self, seconds: float) -> float:
        """How many took longer than that; within a bucket by linear interpolation."""
        place = bisect.bisect_left(self.bounds, seconds)
        if place >= len(self.bounds):
            return 0.0
        later = sum(self.counts[place + 1 :])
        lower = self.bounds[place - 1] if place else 0.0
        upper = self.bounds[place]
        if upper == float("inf"):
            return later + self.counts[place]
        return later + self.counts[place] * (upper - seconds) / (upper - lower)


class Window(NamedTuple):
    """One version's live traffic over a stretch of time.

    Attributes:
        requests: answered or failed.
        errors: those of them that are the service's fault, not the client's.
        latency: of the requests, as the gateway sees it, or, where a gateway cannot tell versions
            apart, the transformer.
        queue_s: mean seconds that a request waited for Triton; None without requests.
        rows: users or histories asked for (a request may have several).
        fallbacks: rows that were answered without their features.
        short: rows that got fewer items than asked for, or none.
    """

    requests: float
    errors: float
    latency: Histogram
    queue_s: float | None
    rows: float
    fallbacks: float
    short: float


class Ranked(NamedTuple):
    """One answer: items with scores, best first."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


class Pair(NamedTuple):
    """One request, answered by both versions; None: by an error.

    Attributes:
        source: "golden", or "live" for one that a client sent.
        k: items asked for.
        cold: the request gave an empty history, so that what comes back is what is popular.
    """

    source: str
    k: int
    stable: Ranked | None
    canary: Ranked | None
    cold: bool = False


class Request(NamedTuple):
    """What to ask both versions. `user_id` or `history` is given; k None: all there are."""

    source: str
    user_id: str | None = None
    history: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    k: int | None = None
    history_times: Sequence[int] = ()  # of each of `history`, seconds; none: not known


class Evidence(Protocol):
    """Live traffic of both versions, from wherever it is counted."""

    def begin(self) -> None:
        """Start a new stretch of time, from now on.

        Raises:
            MetricsUnavailable
        """

    def read(self) -> tuple[Window, Window]:
        """Stable's and the canary's numbers since `begin`.

        Raises:
            MetricsUnavailable
        """


def as_numbers(window: Window) -> dict[str, Any]:
    """For a timeline: what people plot."""

    def ms(seconds: float | None) -> float | None:
        return None if seconds is None else round(1000 * seconds, 3)

    return {
        "requests": round(window.requests),
        "errors": round(window.errors),
        "p50_ms": ms(window.latency.quantile(0.5)),
        "p99_ms": ms(window.latency.quantile(0.99)),
        "queue_ms": ms(window.queue_s),
        "rows": round(window.rows),
        "fallbacks": round(window.fallbacks),
        "short": round(window.short),
    }


def dump(window: Window) -> dict[str, Any]:
    """As JSON, from which `restore` makes the same. JSON has no infinity: the last bound goes."""
    latency = {"bounds": list(window.latency.bounds[:-1]), "counts": list(window.latency.counts)}
    return window._asdict() | {"latency": latency}


def restore(fields: dict[str, Any]) -> Window:
    """What `dump` was given."""
    latency = fields["latency"]
    bounds = (*latency["bounds"], float("inf"))
    return Window(**(fields | {"latency": Histogram(bounds, tuple(latency["counts"]))}))
