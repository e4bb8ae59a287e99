"""Envoy with our configuration, before servers that answer as slowly or seldom as a test wants."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from recommender.files import read_json
from serving.embedded import routes
from serving.embedded.accesslog import rotate
from serving.embedded.gateway import Publication, start_gateway
from serving.embedded.routes import Backend, cluster_names, published_shares
from serving.embedded.state import Gateway
from serving.ports import free_ports
from serving.process import stop
from serving.rollout.embedded.scrape import read_page
from serving.settings import ServingConfig

INFER, SLOW = "/v2/models/recommend/infer", "/v2/models/slow/infer"
SERVICE = "/inference.GRPCInferenceService/"

pytestmark = pytest.mark.timeout(60)


class Upstream(BaseHTTPRequestHandler):
    """Says which headers reached it."""

    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == SLOW:
            time.sleep(2)
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(self.status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-kuberec-version", "a lie")
        self.end_headers()
        with suppress(BrokenPipeError):  # nobody waits for it any more
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


class Failing(Upstream):
    """Fails every request."""

    status = 500


class FailingCalls(grpc.GenericRpcHandler):
    """Fails every call."""

    def service(self, details: Any) -> Any:
        def fail(request: bytes, context: Any) -> None:
            context.abort(grpc.StatusCode.INTERNAL, "as every time")

        return grpc.unary_unary_rpc_method_handler(fail)


class Slow(grpc.GenericRpcHandler):
    """Any method; b"slow" takes two seconds."""

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            if request == b"slow":
                time.sleep(2)
            return details.method.encode()

        return grpc.unary_unary_rpc_method_handler(answer)


class Door:
    def __init__(self, gateway: Gateway, publication: Publication, backend: Backend) -> None:
        self.gateway, self.publication, self.backend = gateway, publication, backend
        self.channel = grpc.insecure_channel(f"127.0.0.1:{gateway.port}")

    def rest(
        self, path: str, method: str = "POST", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=10)
        try:
            connection.request(method, path, b"{}" if method == "POST" else None, headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read()), dict(response.getheaders())
        finally:
            connection.close()

    def grpc(self, method: str, request: bytes = b"", timeout_s: float = 10) -> bytes:
        return self.channel.unary_unary(method)(request, timeout=timeout_s)

    def publish(self, others: Mapping[str, Backend] | None = None, **weights: int) -> None:
        (closed,) = free_ports(1)
        backends = {"a": self.backend, "gone": Backend(closed, closed), **(others or {})}
        self.publication.write(backends, weights, 1.0, self.gateway.admin_port)

    def hidden(self, version: str) -> float:
        """A version's requests that failed first and were answered then, of both protocols."""
        page = read_page(f"127.0.0.1:{self.gateway.admin_port}", "/stats/prometheus", "Envoy")
        return sum(
            count
            for sample, count in page.items()
            if sample.name == "envoy_cluster_upstream_rq_retry_success_total"
            and sample.label("envoy_cluster_name") in cluster_names(version)
        )

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.publication.access_log.read_text().splitlines()]


@contextmanager
def opened(folder: Path, backend: Backend) -> Iterator[Door]:
    port, admin_port = free_ports(2)
    config = ServingConfig(port=port, admin_port=admin_port)
    publication = Publication(folder / "my $HOME; (état)", folder / "logs")
    publication.write({}, {}, 1.0, None)
    gateway = start_gateway(config, publication)
    try:
        door = Door(gateway, publication, backend)
        yield door
        door.channel.close()
    finally:
        stop(gateway.process)


@contextmanager
def upstream(handler: type[Upstream], calls: grpc.GenericRpcHandler) -> Iterator[Backend]:
    rest = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[calls])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Backend(rest.server_address[1], port)
    server.stop(None)
    rest.shutdown()
    rest.server_close()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with upstream(Upstream, Slow()) as each:
        yield each


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Door]:
    with opened(tmp_path_factory.mktemp("door"), backend) as each:
        status, body, _ = each.rest(INFER)
        assert (status, body["error"]) == (
            503,
            "no model version is being served; start one with `kuberec serve`",
        )
        each.publish(a=100)
        yield each


def wait_for(condition: Callable[[], Any], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/metrics", "/v2x", "/admin", "/v2/repository", "/v2/repository/index"),
        *(
            "/v2//%72epository/models/recommend/unload",
            "/v2/x/../repository/index",
            "/v2/../metrics",
        ),
    ],
)
def test_what_is_no_inference_stays_outside(door: Door, path: str) -> None:
    status, body, _ = door.rest(path)
    assert status == 404
    assert "POST /v2/models/recommend/infer (REST)" in body["error"]


def test_grpc_that_is_no_inference_stays_outside(door: Door) -> None:
    assert door.grpc(f"{SERVICE}ModelInfer") == f"{SERVICE}ModelInfer".encode()
    for method in (f"{SERVICE}RepositoryModelUnload", "/grpc.reflection.v1/Info"):
        with pytest.raises(grpc.RpcError) as refused:
            door.grpc(method)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert refused.value.details().startswith("this is not served here; the model is")


def test_headers(door: Door) -> None:
    """The request id is kept, or made; nobody outside steers Envoy; the version is the route's."""
    steer = {"x-envoy-upstream-rq-timeout-ms": "1", "x-envoy-max-retries": "9"}
    status, arrived, answered = door.rest(INFER, headers=steer | {"x-request-id": "my own"})
    assert status == 200
    assert not arrived.keys() & steer.keys()
    assert arrived["x-request-id"] == answered["x-request-id"] == "my own"
    assert answered["x-kuberec-version"] == "a"

    _, arrived, answered = door.rest(INFER)
    assert len(arrived["x-request-id"]) == 36
    assert arrived["x-request-id"] == answered["x-request-id"]


def test_the_admin_page_shows_and_changes_nothing(door: Door) -> None:
    def status(method: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", door.gateway.admin_port, timeout=5)
        connection.request(method, path)
        found = connection.getresponse().status
        connection.close()
        return found

    for path in ("/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/reset_counters"):
        assert status("POST", path) == 403
    for path in ("/", "/ready", "/stats/prometheus", "/stats?filter=cds", "/clusters?format=json"):
        assert status("GET", path) == 200


def test_a_malformed_path_is_said_to_be_so(door: Door) -> None:
    status, body, _ = door.rest("/v2/a%2fb")
    assert status == 400
    assert body == {"error": "malformed request: path_normalization_failed"}


def test_a_request_takes_so_long_and_no_longer(door: Door) -> None:
    begin = time.monotonic()
    status, body, _ = door.rest(SLOW, headers={"x-envoy-upstream-rq-timeout-ms": "9000"})
    assert status == 504
    assert "serving.request_timeout_s" in body["error"]
    with pytest.raises(grpc.RpcError) as late:
        door.grpc(f"{SERVICE}ModelInfer", b"slow")
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 1.9 < time.monotonic() - begin < 3
    # Envoy passes its limit on as a deadline, so the server behind it may have been the first to
    # say so. One that says nothing at all leaves the word to Envoy.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        try:
            door.publish(silent=100, others={"silent": Backend(port, port)})
            with pytest.raises(grpc.RpcError) as late:
                door.grpc(f"{SERVICE}ModelInfer")
        finally:
            door.publish(a=100)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "serving.request_timeout_s" in late.value.details()


def test_a_version_that_is_gone_is_tried_again_and_then_explained(door: Door) -> None:
    try:
        door.publish(gone=100)
        status, body, headers = door.rest(INFER, headers={"x-request-id": "to nobody"})
        assert (status, headers["x-kuberec-version"]) == (503, "gone")
        assert body["error"].startswith("the model version that serves does not answer just now")
        with pytest.raises(grpc.RpcError) as away:
            door.grpc(f"{SERVICE}ModelInfer")
        assert away.value.code() == grpc.StatusCode.UNAVAILABLE
        assert away.value.details() == body["error"]
    finally:
        door.publish(a=100)
    assert door.rest(INFER)[0] == 200

    def line() -> dict[str, Any]:
        return next((each for each in door.logged() if each["request_id"] == "to nobody"), {})

    wait_for(line)
    assert (line()["attempts"], line()["status"], line()["version"]) == (4, 503, "gone")
    assert "UF" in line()["flags"]
    assert line()["path"] == INFER


def test_weights_hold(door: Door) -> None:
    shares = {"a": 50, "b": 30, "c": 20}
    door.publish(**shares, others={"b": door.backend, "c": door.backend})
    try:
        assert published_shares(read_json(door.publication.routes)) == shares
        with ThreadPoolExecutor(8) as pool:
            versions = list(
                pool.map(lambda _: door.rest(INFER)[2]["x-kuberec-version"], range(500))
            )
    finally:
        door.publish(a=100)
    for version, percent in shares.items():
        share = percent / 100
        assert abs(versions.count(version) - 500 * share) < 4.5 * (500 * share * (1 - share)) ** 0.5


def test_what_a_canary_does_not_answer_the_current_version_does(door: Door) -> None:
    """Whether it is gone or fails; never the other way round. Counted as the canary's errors."""
    counted = 20
    with upstream(Failing, FailingCalls()) as failing:
        for canary in ("gone", "failing"):
            door.publish(a=0, **{canary: 100}, others={"failing": failing})
            for _ in range(counted):
                status, _, headers = door.rest(INFER)
                assert (status, headers["x-kuberec-version"]) == (200, "a")
                assert door.grpc(f"{SERVICE}ModelInfer") == f"{SERVICE}ModelInfer".encode()
            assert door.hidden(canary) == 2 * counted
        door.publish(failing=100, a=0, others={"failing": failing})
        try:
            assert door.rest(INFER)[0] == 500
            with pytest.raises(grpc.RpcError) as failed:
                door.grpc(f"{SERVICE}ModelInfer")
        finally:
            door.publish(a=100)
    assert failed.value.code() == grpc.StatusCode.INTERNAL


def test_a_canary_that_hangs_is_answered_for_by_the_current_version(door: Door) -> None:
    """Within a third of the time that a request may take; by itself nothing is cut off so soon."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        door.publish(a=0, hung=100, others={"hung": Backend(port, port)})
        try:
            begin = time.monotonic()
            status, _, headers = door.rest(INFER)
            assert (status, headers["x-kuberec-version"]) == (200, "a")
            assert door.grpc(f"{SERVICE}ModelInfer") == f"{SERVICE}ModelInfer".encode()
            assert 0.6 < time.monotonic() - begin < 1.5
            assert door.hidden("hung") == 2
        finally:
            door.publish(a=100)


def test_the_log_is_rotated_without_a_lost_line(door: Door) -> None:
    log = door.publication.access_log
    older = log.with_name("access.log.1")
    for number in range(40):
        door.rest(f"{INFER}?user=somebody", headers={"x-request-id": f"line-{number}"})
        if number == 20:
            assert rotate(log, door.gateway.admin_port, max_bytes=0)

    def ids() -> list[str]:
        lines = older.read_text().splitlines() + log.read_text().splitlines()
        return [json.loads(line)["request_id"] for line in lines]

    wait_for(lambda: "line-39" in ids())
    assert [each for each in ids() if str(each).startswith("line-")] == [
        f"line-{number}" for number in range(40)
    ]
    assert "line-39" in log.read_text()
    assert "somebody" not in older.read_text() + log.read_text()


def test_more_requests_than_anybody_answers_are_refused_at_once(
    tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "_MAX_REQUESTS", 2)
    with opened(tmp_path, backend) as door:
        door.publish(a=100)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: door.rest(SLOW)[:2], range(12)))
    refused = [body["error"] for status, body in answers if status == 503]
    assert len(refused) >= 6
    assert set(refused) == {"too many requests are under way; try again later"}
