"""Evidence from a cluster's Prometheus: what the pods of both versions counted over a step's time.

The gateway sees both slots of a route as one, so that only the pods can tell the versions apart.
Latency is therefore the transformer's, of the whole request.

`increase()` over a window of so many seconds needs two scrapes within it, and extrapolates from the
first and last of them to its ends: counts are fractions, and of a pod that began within the window
what it counted before its first scrape is missing (all of its series begin at 0, so nothing else
is). Until every version has a pod with two scrapes there is nothing to read, which is told as
"not yet". A slot's pods may be of an older version for a while: only those count whose
kuberec_model_info names the version, those that have gone since included. A pod that is scraped
twice (two PodMonitors that choose it) counts once: the larger of what its scrapes say.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from serving.inference_service import deployment_name
from serving.rollout.evidence import Histogram, MetricsUnavailable, Window
from serving.transformer.errors import SERVICE_FAULTS
from serving.triton.repository import ENSEMBLE

TOKEN_VARIABLE = "KUBEREC_PROMETHEUS_TOKEN"
_TIMEOUT_S = 10.0
_SCRAPES = "scrapes"
_TRITON = ("model", "version", "gpu_uuid")


class Counter(NamedTuple):
    """What is read of a metric.

    Attributes:
        own: all labels that the process itself gives it. Any others are the scrape's.
        kept: those of them that are not summed over.
    """

    metric: str
    own: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    where: str = ""


_COUNTERS = {
    "requests": Counter("kuberec_requests_total", ("protocol", "code"), ("code",)),
    "latency": Counter("kuberec_request_seconds_bucket", ("protocol", "le"), ("le",)),
    "waits": Counter("kuberec_queue_seconds_count"),
    "waited_s": Counter("kuberec_queue_seconds_sum"),
    "queued": Counter("nv_inference_request_success", _TRITON, where=f',model="{ENSEMBLE}"'),
    "queued_us": Counter("nv_inference_queue_duration_us", _TRITON),
    "rows": Counter("kuberec_feature_lookups_total", ("status",)),
    "fallbacks": Counter("kuberec_feature_fallbacks_total", ("reason",)),
    "short": Counter("kuberec_short_answers_total"),
}


class Side(NamedTuple):
    """One version's pods."""

    namespace: str
    service: str
    slot: str | None
    version: str

    @property
    def selector(self) -> str:
        """As autoscaling-*.yaml has it."""
        pods = f"{deployment_name(self.service, self.slot)}-.+"
        return f'namespace="{self.namespace}",pod=~"{pods}"'


class PrometheusEvidence:
    """Counter deltas of stable and canary, by PromQL.

    Args:
        url: of the server, without /api/v1.
    """

    def __init__(self, url: str, stable: Side, canary: Side) -> None:
        self._url, self._sides = url.rstrip("/"), {"stable": stable, "canary": canary}
        self._began = time.monotonic()

    def begin(self) -> None:
        """Start a new window.

        Raises:
            MetricsUnavailable: the server does not answer.
        """
        self._query("time()")
        self._began = time.monotonic()

    def read(self) -> tuple[Window, Window]:
        """Both versions' numbers since `begin`.

        Raises:
            MetricsUnavailable: the server does not answer, a series is not there, or there are not
                yet two scrapes of it.
        """
        window_s = max(int(time.monotonic() - self._began), 1)
        stable, canary = (self._window(name, side, window_s) for name, side in self._sides.items())
        return stable, canary

    def _window(self, name: str, side: Side, window_s: int) -> Window:
        found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for labels, value in self._query(_read_all(side, window_s)):
            found.setdefault(labels["what"], []).append((labels, value))
        scrapes = max((value for _, value in found.get(_SCRAPES, [])), default=0.0)
        if scrapes == 0:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} has no series of the {name} version: asked for "
                f'kuberec_model_info{{{side.selector},version="{side.version}"}} over '
                f"{window_s} s; look at its page Status > Targets, at the PodMonitors of "
                "manifests/monitoring, and whether serving.kubernetes.prometheus is the server "
                "that has them"
            )
        missing = [each.metric for key, each in _COUNTERS.items() if key not in found]
        if scrapes < 2:
            raise MetricsUnavailable(
                f"not yet: within {window_s} s Prometheus at {self._url} has scraped the {name} "
                "version only once, and a difference needs two scrapes"
            )
        if missing:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} has no increase of {', '.join(missing)} of the {name} "
                f"version: asked for {{{side.selector}}} over {window_s} s. nv_* are Triton's "
                "(port 8002, PodMonitor kuberec-triton), kuberec_* the transformer's: one that is "
                "not there is newer than the pods' image"
            )
        return _as_window(found)

    def _query(self, query: str) -> list[tuple[Mapping[str, str], float]]:
        """An instant vector, as of the server's own time; a scalar is none."""
        address = f"{self._url}/api/v1/query"
        data = urllib.parse.urlencode({"query": query, "timeout": f"{_TIMEOUT_S:g}s"}).encode()
        headers = {"Accept": "application/json"}
        if token := os.environ.get(TOKEN_VARIABLE):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(address, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                answer = json.load(response)
            if answer["data"]["resultType"] != "vector":
                return []
            return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()[:300]
            more = ""
            if error.code in (401, 403):
                more = f"; a token goes into the environment variable {TOKEN_VARIABLE}"
            raise MetricsUnavailable(
                f"Prometheus at {self._url} answers {error.code}: {text or error.reason}{more}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} is not reached ({error}): is it there, and is that "
                "its address from here (serving.kubernetes.prometheus, `kuberec deploy "
                "--prometheus URL`)?"
            ) from error


def _read_all(side: Side, window_s: int) -> str:
    """One query for all of it, so that all is of one instant; label `what` says which is which."""
    info = f'kuberec_model_info{{{side.selector},version="{side.version}"}}[{window_s}s]'
    of_version = f"max by (namespace, pod) (max_over_time({info}))"
    parts = [_named(_SCRAPES, f"max(count_over_time({info}))")]
    for name, each in _COUNTERS.items():
        increase = f"increase({each.metric}{{{side.selector}{each.where}}}[{window_s}s])"
        of_pod = f"max by ({', '.join(('namespace', 'pod', *each.own))}) ({increase})"
        by = f" by ({', '.join(each.kept)})" if each.kept else ""
        total = f"sum{by} ({of_pod} * on (namespace, pod) group_left () {of_version})"
        parts.append(_named(name, total))
    return " or ".join(parts)


def _named(name: str, expression: str) -> str:
    return f'label_replace({expression}, "what", "{name}", "", "")'


def _as_window(found: Mapping[str, list[tuple[Mapping[str, str], float]]]) -> Window:
    def total(name: str) -> float:
        return sum(value for _, value in found[name])

    by_code = {labels["code"]: value for labels, value in found["requests"]}
    queue_s = None
    if total("waits") > 0:
        queue_s = total("waited_s") / total("waits")
        if total("queued") > 0:
            queue_s += total("queued_us") / 1e6 / total("queued")
    return Window(
        requests=sum(by_code.values()),
        errors=sum(value for code, value in by_code.items() if code in SERVICE_FAULTS),
        latency=_histogram((float(labels["le"]), value) for labels, value in found["latency"]),
        queue_s=queue_s,
        rows=total("rows"),
        fallbacks=total("fallbacks"),
        short=total("short"),
    )


def _histogram(cumulative: Iterable[tuple[float, float]]) -> Histogram:
    """Of Prometheus's buckets. Extrapolated increases of two may differ a little the wrong way."""
    below, bounds, counts = 0.0, [], []
    for bound, count in sorted(cumulative):
        bounds.append(bound)
        counts.append(max(count - below, 0.0))
        below = max(count, below)
    return Histogram(tuple(bounds), tuple(counts))
