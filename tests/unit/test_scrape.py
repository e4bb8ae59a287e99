"""Numbers of a canary from pages of metrics: growth over restarts, Envoy's buckets."""

import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.ports import free_ports
from serving.rollout.embedded.scrape import Addresses, ScrapedEvidence
from serving.rollout.evidence import MetricsUnavailable, Window


class Page(BaseHTTPRequestHandler):
    """Shows the server's `text`."""

    def do_GET(self) -> None:
        found = self.server.text.encode()  # type: ignore[attr-defined]
        self.send_response(200 if found else 503)
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, *_: object) -> None:
        return


class Scraped:
    """Envoy, and two versions "s" and "c" whose transformer and Triton show the same page."""

    def __init__(self, servers: list[ThreadingHTTPServer]) -> None:
        self.servers = servers
        self.envoy, self.stable, self.canary = servers
        for server in servers:
            server.text = "# nothing yet\n"  # type: ignore[attr-defined]
        envoy, stable, canary = (f"127.0.0.1:{each.server_address[1]}" for each in servers)
        places = {"s": Addresses(stable, stable), "c": Addresses(canary, canary)}
        self.evidence = ScrapedEvidence(envoy, ("s", "c"), places.__getitem__)

    def show(self, envoy: str, canary: str = "") -> None:
        self.envoy.text = envoy  # type: ignore[attr-defined]
        self.canary.text = canary or "# nothing\n"  # type: ignore[attr-defined]

    def read(self) -> Window:
        return self.evidence.read()[1]


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(3)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield Scraped(servers)
    for server in servers:
        server.shutdown()
        server.server_close()


def envoy_page(ok: int, failed: int, later: int, grpc: int, grpc_codes: dict[int, int]) -> str:
    rest, calls = 'envoy_cluster_name="c-http"', 'envoy_cluster_name="c-grpc"'
    codes = {0: grpc} | grpc_codes
    return "\n".join(
        [
            "# TYPE envoy_cluster_upstream_rq counter",
            f'envoy_cluster_upstream_rq{{envoy_response_code="200",{rest}}} {ok}',
            f'envoy_cluster_upstream_rq{{envoy_response_code="400",{rest}}} 1',
            f'envoy_cluster_upstream_rq{{envoy_response_code="503",{rest}}} {failed}',
            # gRPC's own errors are HTTP 200 here; one that never reached anybody is a 503 as well.
            f'envoy_cluster_upstream_rq{{envoy_response_code="503",{calls}}} 7',
            "# TYPE envoy_cluster_upstream_rq_retry_success counter",
            f"envoy_cluster_upstream_rq_retry_success{{{rest}}} {later}",
            f"envoy_cluster_upstream_rq_retry_success{{{calls}}} 0",
            *(
                line
                for code, count in codes.items()
                for line in (
                    f"# TYPE envoy_cluster_grpc_ModelInfer_{code} counter",
                    f"envoy_cluster_grpc_ModelInfer_{code}{{{calls}}} {count}",
                )
            ),
            "",
        ]
    )


def test_each_request_and_each_error_counts_once(scraped: Scraped) -> None:
    with pytest.raises(MetricsUnavailable, match="never read before"):
        scraped.read()
    scraped.show(envoy_page(ok=100, failed=5, later=2, grpc=50, grpc_codes={3: 4, 14: 3}))
    scraped.evidence.begin()
    assert (scraped.read().requests, scraped.read().errors) == (0, 0)
    scraped.show(envoy_page(ok=110, failed=6, later=4, grpc=70, grpc_codes={3: 5, 13: 1, 14: 5}))
    found = scraped.read()
    # REST 10 + 1; gRPC 20, one that was the client's mistake, one INTERNAL, two UNAVAILABLE.
    assert found.requests == 11 + 20 + 1 + 1 + 2
    assert found.errors == 1 + 2 + 1 + 2
    assert scraped.evidence.read()[0].requests == 0  # stable's


def test_what_began_anew_is_counted_from_zero(scraped: Scraped) -> None:
    def own(rows: int, fallbacks: int, short: int, waits: int) -> str:
        return (
            f'kuberec_feature_lookups_total{{status="ok"}} {rows - fallbacks}\n'
            f'kuberec_feature_lookups_total{{status="fallback_stale"}} {fallbacks}\n'
            f'kuberec_feature_fallbacks_total{{reason="stale"}} {fallbacks}\n'
            f"kuberec_short_answers_total {short}\n"
            f"kuberec_queue_seconds_sum {waits * 0.002}\nkuberec_queue_seconds_count {waits}\n"
            "# TYPE nv_inference_request_success counter\n"
            f'nv_inference_request_success{{model="recommend"}} {waits}\n'
            "# TYPE nv_inference_queue_duration_us counter\n"
            f'nv_inference_queue_duration_us{{model="recommend"}} {waits * 500}\n'
        )

    envoy = envoy_page(0, 0, 0, 0, {})
    scraped.show(envoy, own(rows=1000, fallbacks=100, short=10, waits=900))
    scraped.evidence.begin()
    scraped.show(envoy, own(rows=1010, fallbacks=102, short=11, waits=908))
    assert scraped.read()[4:] == (10, 2, 1)
    scraped.show(envoy, own(rows=5, fallbacks=1, short=0, waits=3))  # it was restarted
    found = scraped.read()
    assert found[4:] == (15, 3, 1)
    assert found.queue_s == pytest.approx(0.0025)


def test_envoys_buckets_end_with_a_bin_of_its_histogram(scraped: Scraped) -> None:
    def page(counts: dict[str, int]) -> str:
        below, lines = 0, ["# TYPE envoy_cluster_upstream_rq_time histogram"]
        for le, count in counts.items():
            below += count
            labels = f'envoy_cluster_name="c-http",le="{le}"'
            lines.append(f"envoy_cluster_upstream_rq_time_bucket{{{labels}}} {below}")
        return "\n".join([*lines, ""])

    scraped.show(page({"0.5": 1, "3": 1, "95": 1, "110": 1, "1250": 1, "+Inf": 1}))
    scraped.evidence.begin()
    scraped.show(page({"0.5": 2, "3": 3, "95": 4, "110": 5, "1250": 6, "+Inf": 7}))
    latency = scraped.read().latency
    assert latency.bounds == (0.001, 0.004, 0.096, 0.12, 1.3, math.inf)
    assert latency.counts == (1, 2, 3, 4, 5, 6)


def test_who_cannot_be_read_is_named(scraped: Scraped) -> None:
    port = scraped.envoy.server_address[1]
    scraped.show("")
    with pytest.raises(MetricsUnavailable, match=rf"Envoy .*127.0.0.1:{port}/stats.*: HTTP 503"):
        scraped.evidence.begin()
    (nobody,) = free_ports(1)
    address = f"127.0.0.1:{nobody}"
    away = ScrapedEvidence(address, ("s", "c"), {}.__getitem__)
    with pytest.raises(MetricsUnavailable, match=rf"Envoy .*{address}.*refused"):
        away.begin()
