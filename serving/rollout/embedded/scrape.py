"""Both versions' live traffic on this machine: read where it is counted, without a Prometheus.

What clients saw is counted by Envoy, a cluster a version and protocol (routes.cluster_names):

requests: of REST every final answer (`upstream_rq_<code>`), of gRPC every ModelInfer by its status
    (the filter grpc_stats; every one of them is HTTP 200, so that HTTP's codes say nothing).
errors: final answers 5xx of REST; gRPC statuses in SERVICE_FAULTS; and what failed first and was
    answered on a later try (`upstream_rq_retry_success`), which clients did not notice but which
    the version must answer for, also where the current version answered in a canary's place. A
    request is in one of them only: a try that is repeated has no final answer.
latency: `upstream_rq_time`, from the end of the request to the end of the answer, later tries
    included. Envoy counts whole milliseconds, cut off, and lets a bucket end with a bin of its
    own histogram, which is wider than what `le` says by that bin.

Rows, fallbacks and short answers are counted by each version's transformer, the wait by the
transformer (for its turn to ask Triton) and by Triton (in its own queue).
"""

import http.client
import math
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from serving.embedded.routes import GRPC_METHOD, cluster_names
from serving.rollout.evidence import Histogram, MetricsUnavailable, Window
from serving.transformer.errors import SERVICE_FAULTS
from serving.triton.repository import ENSEMBLE

_TIMEOUT_S = 3.0
# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
_GRPC_CODES = {
    "UNKNOWN": 2,
    "DEADLINE_EXCEEDED": 4,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
}
_FAULTS = {str(_GRPC_CODES[name]) for name in SERVICE_FAULTS}
_COUNTED = r"upstream_rq_(time|retry_success|\d+)|grpc\..*\.\d+"
_STATUS = re.compile(rf"envoy_cluster_grpc_{GRPC_METHOD}_(\d+)_total")

_ANSWERED_LATER = "envoy_cluster_upstream_rq_retry_success_total"


class Addresses(NamedTuple):
    """host:port where a version's own parts count."""

    transformer: str
    triton: str


class Sample(NamedTuple):
    """One series of a page by its name, of a counter always with `_total`, and its labels."""

    name: str
    labels: frozenset[tuple[str, str]]

    def label(self, name: str) -> str:
        return next((value for label, value in self.labels if label == name), "")


class Increases:
    """What each counter has grown by since this was made: over restarts of whoever counts.

    As Prometheus's `increase`: one that is lower than when it was last read began anew at 0, and so
    did one that was not there before.
    """

    def __init__(self, now: Mapping[Sample, float]) -> None:
        self._last = dict(now)
        self.by_sample: dict[Sample, float] = {}

    def add(self, now: Mapping[Sample, float]) -> None:
        for sample, value in now.items():
            last = self._last.get(sample, 0.0)
            grown = value - last if value >= last else value
            self.by_sample[sample] = self.by_sample.get(sample, 0.0) + grown
        self._last |= now

    def total(self, name: str, **labels: str) -> float:
        """Of all series of that name that have these labels."""
        wanted = set(labels.items())
        return sum(
            grown
            for sample, grown in self.by_sample.items()
            if sample.name == name and wanted <= sample.labels
        )


class ScrapedEvidence:
    """Numbers of two versions behind one Envoy (evidence.Evidence).

    Args:
        envoy: host:port of its admin page.
        versions: stable and canary.
        locate: where a version's parts are by now; MetricsUnavailable if they are nowhere.
    """

    def __init__(
        self, envoy: str, versions: tuple[str, str], locate: Callable[[str], Addresses]
    ) -> None:
        self._envoy, self._versions, self._locate = envoy, versions, locate
        self._increases: dict[str, Increases] | None = None

    def begin(self) -> None:
        self._increases = {name: Increases(page) for name, page in self._pages().items()}

    def read(self) -> tuple[Window, Window]:
        if self._increases is None:
            raise MetricsUnavailable("nothing was counted yet: the numbers were never read before")
        for name, page in self._pages().items():
            self._increases[name].add(page)
        stable, canary = (self._window(version) for version in self._versions)
        return stable, canary

    def _pages(self) -> dict[str, dict[Sample, float]]:
        """Envoy's as "", a version's transformer's and Triton's by its name."""
        clusters = "|".join(
            re.escape(name) for version in self._versions for name in cluster_names(version)
        )
        chosen = urllib.parse.quote(rf"^cluster\.({clusters})\.({_COUNTED})$")
        pages = {"": read_page(self._envoy, f"/stats/prometheus?filter={chosen}", "Envoy")}
        for version in self._versions:
            transformer, triton = self._locate(version)
            pages[version] = read_page(
                transformer, "/metrics", f"the transformer of {version}"
            ) | read_page(triton, "/metrics", f"Triton of {version}")
        return pages

    def _window(self, version: str) -> Window:
        assert self._increases is not None
        envoy, own = self._increases[""], self._increases[version]
        rest, grpc = cluster_names(version)
        requests, errors = 0.0, 0.0
        for sample, grown in envoy.by_sample.items():
            cluster, code = sample.label("envoy_cluster_name"), sample.label("envoy_response_code")
            status = _STATUS.fullmatch(sample.name)
            if cluster == rest and code:
                requests += grown
                errors += grown if code.startswith("5") else 0.0
            elif cluster == grpc and status:
                requests += grown
                errors += grown if status[1] in _FAULTS else 0.0
            elif cluster in (rest, grpc) and sample.name == _ANSWERED_LATER:
                errors += grown
        return Window(
            requests=requests,
            errors=errors,
            latency=_latency(
                (sample.label("le"), grown)
                for sample, grown in envoy.by_sample.items()
                if sample.name == "envoy_cluster_upstream_rq_time_bucket"
                and sample.label("envoy_cluster_name") in (rest, grpc)
            ),
            queue_s=_wait_s(own),
            rows=own.total("kuberec_feature_lookups_total"),
            fallbacks=own.total("kuberec_feature_fallbacks_total"),
            short=own.total("kuberec_short_answers_total"),
        )


def read_page(address: str, path: str, what: str) -> dict[Sample, float]:
    """A page of metrics in Prometheus's text format, by series.

    Raises:
        MetricsUnavailable: naming the address.
    """
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status}")
        return {
            Sample(each.name, frozenset(each.labels.items())): float(each.value)
            for family in text_string_to_metric_families(text)
            for each in family.samples
        }
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MetricsUnavailable(
            f"the numbers of {what} cannot be read at http://{address}{path.partition('?')[0]}: "
            f"{error or type(error).__name__}"
        ) from error
    finally:
        connection.close()


def _latency(buckets: Iterable[tuple[str, float]]) -> Histogram:
    """Of Envoy's cumulative buckets in milliseconds, of several clusters."""
    below: dict[float, float] = {}
    for le, count in buckets:
        below[float(le)] = below.get(float(le), 0.0) + count
    bounds = sorted(below)
    if not bounds:
        return Histogram((math.inf,), (0.0,))
    counts, before = [], 0.0
    for bound in bounds:
        counts.append(max(below[bound] - before, 0.0))
        before = below[bound]
    return Histogram(tuple(_end_s(bound) for bound in bounds), tuple(counts))


def _end_s(le_ms: float) -> float:
    """The end in seconds of the bucket `le`: of the last bin that begins within it.

    Bins have two significant digits (https://github.com/openhistogram/libcircllhist): 95, 96, …,
    then 100, 110, …; a request of 3.9 ms counts as 3.
    """
    if math.isinf(le_ms):
        return le_ms
    width = 10.0 ** max(math.floor(math.log10(le_ms)) - 1, 0)
    return (math.floor(le_ms / width) * width + width) / 1000


def _wait_s(own: Increases) -> float | None:
    """Mean wait of a request, at the transformer and in Triton; None without any."""
    waits = own.total("kuberec_queue_seconds_count")
    served = own.total("nv_inference_request_success_total", model=ENSEMBLE)
    if not waits or not served:
        return None
    queued_us = own.total("nv_inference_queue_duration_us_total", model=ENSEMBLE)
    return own.total("kuberec_queue_seconds_sum") / waits + queued_us / served * 1e-6
