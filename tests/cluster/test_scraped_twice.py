"""A pod that a real Prometheus scrapes by two ways counts once."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from room import eventually
from scraper import prometheus

from recommender.files import write_json
from serving.rollout.evidence import Window
from serving.rollout.kserve.prometheus import PrometheusEvidence, Side

A_SECOND = 100  # requests
BEGIN = time.time()
METRICS = """
kuberec_model_info{{version="v1"}} 1
kuberec_requests_total{{protocol="rest",code="OK"}} {half}
kuberec_requests_total{{protocol="grpc",code="OK"}} {half}
kuberec_request_seconds_bucket{{protocol="rest",le="0.1"}} {half}
kuberec_request_seconds_bucket{{protocol="rest",le="+Inf"}} {half}
kuberec_queue_seconds_count {all}
kuberec_queue_seconds_sum {all}
nv_inference_request_success{{model="recommend",version="1"}} {all}
nv_inference_queue_duration_us{{model="recommend",version="1"}} {all}
kuberec_feature_lookups_total{{status="found"}} {half}
kuberec_feature_lookups_total{{status="missing"}} {half}
kuberec_feature_fallbacks_total{{reason="timeout"}} {all}
kuberec_short_answers_total {all}
"""


class Pod(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        count = (time.time() - BEGIN) * A_SECOND
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(METRICS.format(half=count / 2, all=count).lstrip().encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes one pod in the namespace `once`, and the same twice in `twice`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pod) as server, prometheus(tmp_path) as url:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pod = {"pod": "recommend-blue-predictor-1"}
        ways = [
            {"namespace": "once", "endpoint": "http1"},
            {"namespace": "twice", "endpoint": "http1"},
            {"namespace": "twice", "endpoint": "8080"},
        ]
        target = f"127.0.0.1:{server.server_address[1]}"
        groups = [{"targets": [target], "labels": pod | way} for way in ways]
        write_json(tmp_path / "targets.json", groups)
        yield url
        server.shutdown()


def test_it_counts_once(url: str) -> None:
    once, twice = (Side(each, "recommend", "blue", "v1") for each in ("once", "twice"))
    evidence = PrometheusEvidence(url, once, twice)

    def both() -> tuple[Window, Window] | None:
        """Once there are so many scrapes of both that what is beyond their ends is little."""
        found = evidence.read()
        return found if min(each.requests for each in found) > 8 * A_SECOND else None

    single, double = eventually(both, 40)

    for name in ("requests", "rows", "fallbacks", "short", "queue_s"):
        assert getattr(double, name) == pytest.approx(getattr(single, name), rel=0.4), name
    assert double.latency.total == pytest.approx(single.latency.total, rel=0.4)
    assert single.requests == pytest.approx(2 * single.latency.total, rel=0.01)  # both protocols
