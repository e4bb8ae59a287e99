"""How new the features are that clients are answered from, as metrics.

The age of each row read is in kuberec_feature_age_seconds; what is here tells "no new events come
in" from "users with old histories ask".
"""

from prometheus_client import Gauge

_NEWEST = Gauge(
    "kuberec_feature_newest_event_timestamp_seconds",
    "Event time of the newest row read since this process began",
    ["view"],
)
_seen: dict[str, float] = {}


def saw(view: str, event_time: float) -> None:
    """A row of `view` was read, with this event time (Unix time, seconds)."""
    if event_time > _seen.get(view, 0.0):
        _seen[view] = event_time
        _NEWEST.labels(view).set(event_time)
