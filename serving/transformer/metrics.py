"""What the transformer counts and times: its Prometheus metrics, in the default registry.

Label values that are known beforehand are made here: a dashboard finds a series at 0 before it
first happens, and Prometheus's `increase`, which does not see a series appear, misses nothing.
"""

import contextvars
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info, disable_created_metrics

from serving.transformer.errors import CODES

disable_created_metrics()  # a second series for every one, which nobody reads

# False while a rollout's request is answered, one of the side door: what is counted and timed is
# what clients ask. Triton and the feature store have the work all the same, and their own numbers
# (LOOKUP_SECONDS, PREDICTOR_ROWS, ROWS_IN_FLIGHT) show it.
of_client: contextvars.ContextVar[bool] = contextvars.ContextVar("of_client", default=True)

PROTOCOLS = ("rest", "grpc")
STAGES = ("parse", "features", "predictor", "build")
_MS = 1e-3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

MODEL = Info("kuberec_model", "The model version that is served")

REQUESTS = Counter(
    "kuberec_requests", "Requests answered, by protocol and by status code", ["protocol", "code"]
)
REQUEST_SECONDS = Histogram(
    "kuberec_request_seconds",
    "What a whole request takes here, failed ones included",
    ["protocol"],
    # Finest where a version that is slower by some 10 ms shows in p50 and p99.
    buckets=[
        ms * _MS
        for ms in (
            *(0.5, 1, 2, 3, 5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 35, 40, 50),
            *(60, 70, 85, 100, 120, 150),
            *(200, 250, 300, 350, 400, 500, 700, 1000, 2000, 5000, 10_000),
        )
    ],
)
SHORT_ANSWERS = Counter(
    "kuberec_short_answers", "Rows answered with fewer items than asked for, or with none"
)
REQUESTS_IN_FLIGHT = Gauge("kuberec_requests_in_flight", "Requests under way", ["protocol"])
ROWS_IN_FLIGHT = Gauge("kuberec_rows_in_flight", "Rows of requests under way")
SECONDS = {protocol: REQUEST_SECONDS.labels(protocol) for protocol in PROTOCOLS}
for _protocol in PROTOCOLS:
    REQUESTS_IN_FLIGHT.labels(_protocol)
    for _code in CODES:
        REQUESTS.labels(_protocol, _code)
OVERLOADED = Counter("kuberec_overloaded", "Requests refused because too much was under way")
STAGE_SECONDS = Histogram(
    "kuberec_stage_seconds",
    "What each stage of a request takes",
    ["stage"],
    buckets=[
        ms * _MS
        for ms in (0.1, 0.2, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 35, 50, 100, 200, 500, 1000, 5000)
    ],
)
STAGE = {name: STAGE_SECONDS.labels(name) for name in STAGES}

PREDICTOR_ROWS = Histogram(
    "kuberec_predictor_rows",
    "Rows of each request to Triton, which clients' requests share while it is busy",
    buckets=[1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128],
)

# Triton's own queue is empty while requests wait here for their turn: together they say when more
# replicas are needed (manifests/base scales on their sum).
QUEUE_SECONDS = Histogram(
    "kuberec_queue_seconds",
    "Time that a client's request waits for its turn to be sent to Triton",
    buckets=[ms * _MS for ms in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 35, 50, 100, 200, 500, 1000)],
)

LOOKUPS = Counter(
    "kuberec_feature_lookups", "Rows answered, by the feature_status that they show", ["status"]
)
LOOKUP_SECONDS = Histogram(
    "kuberec_feature_lookup_seconds",
    "What a read of the online store takes, those at the deadline included",
    buckets=[
        ms * _MS for ms in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
    ],
)
FEATURE_AGE_SECONDS = Histogram(
    "kuberec_feature_age_seconds",
    "Age of the rows that were read, by their event time",
    ["view"],
    buckets=[
        _MINUTE,
        5 * _MINUTE,
        15 * _MINUTE,
        _HOUR,
        3 * _HOUR,
        6 * _HOUR,
        12 * _HOUR,
        _DAY,
        2 * _DAY,
        7 * _DAY,
        14 * _DAY,
        30 * _DAY,
        90 * _DAY,
        180 * _DAY,
        365 * _DAY,
    ],
)
BEYOND_LIMIT = Counter(
    "kuberec_features_beyond_limit",
    "Rows older than max_age_s, by what was done",
    ["view", "policy"],
)
FALLBACKS = Counter(
    "kuberec_feature_fallbacks", "Users answered as for an empty history, by reason", ["reason"]
)
REJECTED = Counter(
    "kuberec_features_rejected", "Requests refused for their features, by reason", ["reason"]
)
for _reason in ("stale", "timeout", "error", "unavailable"):
    FALLBACKS.labels(_reason)
    REJECTED.labels(_reason)
LOG_ROWS = Counter(
    "kuberec_request_log_rows", "Rows for the request log, by what became of them", ["outcome"]
)
for _outcome in ("written", "dropped", "failed", "refused"):
    LOG_ROWS.labels(_outcome)
STORE_OPEN = Gauge("kuberec_feature_store_open", "1 while a feature store is open")
STORE_OPENED = Counter("kuberec_feature_store_opened", "Times that the feature store was opened")


def count(counter: Any, amount: float = 1) -> None:
    """Add to a counter, if the request under way is a client's."""
    if of_client.get():
        counter.inc(amount)


def timed(stage: str) -> AbstractContextManager[Any]:
    """Time a stage of the request under way, if that is a client's."""
    return STAGE[stage].time() if of_client.get() else nullcontext()


def name_model(version: str) -> None:
    """Say which model version this process serves, as kuberec_model_info."""
    MODEL.info({"version": version})
