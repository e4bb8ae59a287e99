"""What is asked of Prometheus, and what comes of its answers; a real one is in the cluster lane."""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.rollout.evidence import MetricsUnavailable
from serving.rollout.kserve.prometheus import TOKEN_VARIABLE, PrometheusEvidence, Side

STABLE, CANARY = (
    Side("shop", "recommend", slot, version) for slot, version in (("blue", "v1"), ("green", "v2"))
)


class Server:
    """Answers every query as `vector` says; keeps what was asked."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status, self.vector = 200, everything()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.queries.append(urllib.parse.parse_qs(body)["query"][0])
                outer.headers.append(dict(self.headers))
                result = [{"metric": m, "value": [0, str(v)]} for m, v in outer.vector]
                data = {"resultType": "vector", "result": result}
                answer = json.dumps({"status": "success", "data": data}).encode()
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(answer if outer.status == 200 else b"no such person")

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


def everything(**changes: float) -> list[tuple[dict[str, str], float]]:
    single = {
        "scrapes": 5,
        "waits": 100,
        "waited_s": 0.5,
        "queued": 50,
        "queued_us": 50_000,
        "rows": 200,
        "fallbacks": 3,
        "short": 2,
    } | changes
    codes = {"OK": 90.5, "INTERNAL": 4, "UNAVAILABLE": 1, "INVALID_ARGUMENT": 5}
    buckets = {"0.01": 60, "0.1": 99.5, "+Inf": 99}  # extrapolated: less than the one before
    return [
        *(({"what": name}, value) for name, value in single.items()),
        *(({"what": "requests", "code": code}, value) for code, value in codes.items()),
        *(({"what": "latency", "le": le}, value) for le, value in buckets.items()),
    ]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.http.serve_forever, daemon=True).start()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def evidence(server: Server) -> PrometheusEvidence:
    return PrometheusEvidence(server.url + "/", STABLE, CANARY)


def test_numbers_of_a_window(evidence: PrometheusEvidence) -> None:
    stable, canary = evidence.read()
    assert stable == canary
    assert (stable.requests, stable.errors) == (100.5, 5)  # a client's mistake is none of ours
    assert stable.latency.bounds == (0.01, 0.1, float("inf"))
    assert stable.latency.counts == (60, 39.5, 0)
    assert stable.queue_s == pytest.approx(0.5 / 100 + 0.05 / 50)
    assert (stable.rows, stable.fallbacks, stable.short) == (200, 3, 2)


def test_each_version_is_asked_for_by_its_pods_and_its_name(
    evidence: PrometheusEvidence, server: Server
) -> None:
    evidence.read()
    for query, slot, version in zip(server.queries, ("blue", "green"), ("v1", "v2"), strict=True):
        pods = f'namespace="shop",pod=~"recommend-{slot}-predictor-.+"'
        increase = f"increase(kuberec_requests_total{{{pods}}}[1s])"
        assert f"max by (namespace, pod, protocol, code) ({increase})" in query
        assert f'kuberec_model_info{{{pods},version="{version}"}}[1s]' in query


def test_without_requests_there_is_no_wait(evidence: PrometheusEvidence, server: Server) -> None:
    server.vector = everything(waits=0, queued=0)
    assert evidence.read()[0].queue_s is None


def test_a_token_is_shown(
    evidence: PrometheusEvidence, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    evidence.begin()
    assert server.headers[0]["Authorization"] == "Bearer secret"
    server.status = 401
    with pytest.raises(MetricsUnavailable, match=f"answers 401: no such person.*{TOKEN_VARIABLE}"):
        evidence.begin()


def test_what_is_not_there_is_no_zero(evidence: PrometheusEvidence, server: Server) -> None:
    server.vector = []
    with pytest.raises(MetricsUnavailable, match="no series of the stable version: asked for") as e:
        evidence.read()
    assert "PodMonitors" in str(e.value)
    server.vector = everything(scrapes=1)
    with pytest.raises(MetricsUnavailable, match=r"not yet: within 1 s .* only once"):
        evidence.read()
    server.vector = [each for each in everything() if each[0]["what"] != "queued_us"]
    with pytest.raises(MetricsUnavailable, match="no increase of nv_inference_queue_duration_us"):
        evidence.read()


def test_a_server_that_is_away() -> None:
    evidence = PrometheusEvidence("http://127.0.0.1:9", STABLE, CANARY)
    with pytest.raises(
        MetricsUnavailable, match=r"http://127.0.0.1:9 is not reached .*--prometheus"
    ):
        evidence.begin()
