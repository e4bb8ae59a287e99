"""The transformer between a real Feast store and a real Triton."""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from feature_stores import sqlite_store
from tiny_version import K, catalogue, write_tiny_version
from tritonclient.utils import InferenceServerException

from serving.embedded.transformer import (
    TransformerPorts,
    TransformerServer,
    launch_transformer,
    wait_for_transformer,
)
from serving.ports import free_ports
from serving.process import alive
from serving.settings import TransformerConfig, ViewFreshness
from serving.triton.server import TritonServer, temporary_triton

VERSION = "v1"  # whose FeatureService the small store has
NOW = datetime.now(UTC)
HISTORIES: dict[str, tuple[list[str] | None, datetime]] = {
    "ann": (["item-1", "item-2", "item-3"], NOW - timedelta(hours=1)),
    "old": (["item-9", "gone", "item-4"], NOW - timedelta(days=3)),
    "null": (None, NOW),
}
CONFIG = TransformerConfig(
    freshness={"user_history": ViewFreshness(max_age_s=86_400, policy="flag")},
    predictor_timeout_s=1.0,
)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

pytestmark = pytest.mark.timeout(120)


class Collector:
    """An OpenTelemetry collector's HTTP side: keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


class Pod(NamedTuple):
    """One replica, and where its spans go."""

    transformer: TransformerServer
    triton: TritonServer
    collector: Collector


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("pod")
    version = write_tiny_version(folder / VERSION, catalogue(), VERSION)
    store = sqlite_store(folder / "store", HISTORIES)
    collector = Collector()
    with pytest.MonkeyPatch.context() as patch, temporary_triton(version, folder / "t") as triton:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        (folder / "tmp").mkdir()
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder / "tmp"))  # of whoever starts it
        server = launch_transformer(
            version,
            TransformerPorts(*free_ports(3)),
            triton.grpc_port,
            store,
            CONFIG,
            folder / "settings.json",
            folder / "transformer.log",
        )
        try:
            wait_for_transformer(server, 60, lambda message: None)
            yield Pod(server, triton, collector)
        finally:
            server.stop()
            collector.server.shutdown()


def tensor(module: Any, name: str, values: Any, datatype: str = "BYTES") -> Any:
    array = np.array(values, dtype=object if datatype == "BYTES" else np.int64)
    made = module.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array)
    return made


def ask(pod: Pod, protocol: str = "grpc", **inputs: Any) -> Any:
    """The result of one request; `k` is a number, other inputs are BYTES."""
    module = {"grpc": triton_grpc, "http": triton_http}[protocol]
    url = pod.transformer.grpc_url if protocol == "grpc" else pod.transformer.http_url
    tensors = [
        tensor(module, name, [values], "INT64") if name == "k" else tensor(module, name, values)
        for name, values in inputs.items()
    ]
    with module.InferenceServerClient(url) as client:
        return client.infer("recommend", tensors, request_id="a request")


def items(result: Any) -> list[list[str]]:
    return [[item.decode() for item in row] for row in result.as_numpy("item_ids")]


def rest(pod: Pod, body: Any, path: str = "/v2/models/recommend/infer", **headers: str) -> Any:
    """(status, JSON) of a plain REST request."""
    request = urllib.request.Request(
        f"http://{pod.transformer.http_url}{path}",
        json.dumps(body).encode() if body is not None else None,
        headers,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def age(name: str) -> float:
    """Seconds since the stored history's event time, as of now."""
    return (datetime.now(UTC) - HISTORIES[name][1]).total_seconds()


def user(*names: str) -> dict[str, Any]:
    return {"name": "user_id", "shape": [len(names)], "datatype": "BYTES", "data": [*names]}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_user_is_answered_from_the_stored_history(pod: Pod, protocol: str) -> None:
    stored = ask(pod, protocol, user_id=["ann"])
    given = ask(pod, protocol, history=[["item-1", "item-2", "item-3"]])
    assert items(stored) == items(given)
    assert stored.as_numpy("scores").tolist() == given.as_numpy("scores").tolist()
    assert stored.as_numpy("scores").shape == (1, K)
    assert stored.as_numpy("feature_status").tolist() == [b"ok"]
    assert given.as_numpy("feature_status").tolist() == [b"given"]
    assert stored.as_numpy("feature_age_seconds")[0] == pytest.approx(age("ann"), abs=10)
    assert given.as_numpy("feature_age_seconds").tolist() == [-1]
    answer = stored.get_response(as_json=True) if protocol == "grpc" else stored.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == (
        "a request",
        "recommend",
        VERSION,
    )


def test_every_row_says_where_its_history_is_from(pod: Pod) -> None:
    result = ask(pod, user_id=["ann", "old", "nobody", "null", "ann"])
    assert result.as_numpy("feature_status").tolist() == [b"ok", b"stale", b"unknown", b"ok", b"ok"]
    ages = result.as_numpy("feature_age_seconds")
    assert ages[1] == pytest.approx(age("old"), abs=10)
    assert ages[2] == -1
    rows = items(result)
    popular = items(ask(pod, history=[[""]]))[0]
    assert rows[2] == rows[3] == popular != rows[0] == rows[4]
    assert rows[1] == items(ask(pod, history=[["item-9", "gone", "item-4"]]))[0]


def test_a_history_in_the_request_overrides_the_stored_one(pod: Pod) -> None:
    result = ask(pod, user_id=["ann"], history=[["item-7", "item-8"]])
    assert items(result) == items(ask(pod, history=[["item-7", "item-8"]]))
    assert result.as_numpy("feature_status").tolist() == [b"given"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_k_and_exclude_shape_the_answer(pod: Pod, protocol: str) -> None:
    whole = items(ask(pod, protocol, user_id=["ann", "old"]))
    two = ask(pod, protocol, user_id=["ann", "old"], k=2)
    assert items(two) == [row[:2] for row in whole]
    assert two.as_numpy("scores").shape == (2, 2)
    less = items(ask(pod, protocol, user_id=["ann", "old"], exclude=[[whole[0][0]], [""]]))
    assert less[0][: K - 1] == whole[0][1:]
    assert less[1] == whole[1]


def test_requests_that_share_one_to_triton_get_their_own_answers(pod: Pod) -> None:
    def merged() -> float:
        return counted(pod, 'kuberec_predictor_rows_bucket{le="64.0"}') - counted(
            pod, 'kuberec_predictor_rows_bucket{le="1.0"}'
        )

    def asked(number: int) -> dict[str, Any]:
        length = number % 7
        history = [[f"item-{1 + (number * 5 + place) % 40}" for place in range(length)]]
        exclude = {"exclude": [[f"item-{1 + number % 40}"]]} if number % 3 == 0 else {}
        return {"history": history} | exclude if length else {"user_id": ["ann"]} | exclude

    asks = [asked(number) for number in range(24)]
    alone = [ask(pod, **each) for each in asks]
    before = merged()
    with ThreadPoolExecutor(len(asks)) as pool:
        together = list(pool.map(lambda each: ask(pod, **each), asks * 8))
    assert merged() > before
    for one, other in zip(alone * 8, together, strict=True):
        assert items(one) == items(other)
        scores = [each.as_numpy("scores") for each in (one, other)]
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_json_binary_and_grpc_say_the_same(pod: Pod) -> None:
    status, plain = rest(pod, {"inputs": [user("ann")], "outputs": [{"name": "item_ids"}]})
    assert status == 200
    assert [output["name"] for output in plain["outputs"]] == ["item_ids"]
    assert [plain["outputs"][0]["data"]] == items(ask(pod, "http", user_id=["ann"]))
    assert [plain["outputs"][0]["data"]] == items(ask(pod, "grpc", user_id=["ann"]))
    assert plain["model_version"] == VERSION


def test_another_version_or_model_is_not_found(pod: Pod) -> None:
    body = {"inputs": [user("ann")]}
    assert rest(pod, body, f"/v2/models/recommend/versions/{VERSION}/infer")[0] == 200
    status, answer = rest(pod, body, "/v2/models/recommend/versions/7/infer")
    assert status == 404
    assert "model version '7' is not served here; allowed: v1" in answer["error"]
    assert rest(pod, body, "/v2/models/other/infer")[0] == 404
    for path in ("", "/ready"):
        assert rest(pod, None, f"/v2/models/recommend/versions/{VERSION}{path}")[0] == 200
        assert rest(pod, None, f"/v2/models/recommend/versions/7{path}")[0] == 404
    status, answer = rest(pod, None, "/v2/models/recommend/infer")
    assert (status, answer["error"]) == (
        405,
        "GET is not for /v2/models/recommend/infer; allowed: POST",
    )
    with (
        triton_grpc.InferenceServerClient(pod.transformer.grpc_url) as client,
        pytest.raises(InferenceServerException, match="not served here") as refused,
    ):
        client.infer("recommend", [tensor(triton_grpc, "user_id", ["ann"])], model_version="7")
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    with triton_grpc.InferenceServerClient(pod.transformer.grpc_url) as client:
        assert client.is_model_ready("recommend", VERSION)
        with pytest.raises(InferenceServerException, match="not served here"):
            client.is_model_ready("recommend", "7")


def test_metadata_describes_the_tensors_and_nothing_unloads(pod: Pod) -> None:
    with triton_grpc.InferenceServerClient(pod.transformer.grpc_url) as client:
        metadata = client.get_model_metadata("recommend")
        names = ["user_id", "history", "exclude", "history_times", "k"]
        assert [each.name for each in metadata.inputs] == names
        assert len(metadata.outputs) == 4
        assert client.is_server_ready()
        assert client.is_model_ready("recommend")
        with pytest.raises(InferenceServerException, match=r"[Mm]ethod not found"):
            client.unload_model("recommend")
    status, answer = rest(pod, {}, "/v2/repository/models/recommend/unload")
    assert (status, answer["error"][:30]) == (404, "nothing is at /v2/repository/m")
    assert rest(pod, None, "/v2")[1]["extensions"] == []
    assert rest(pod, None, "/v2/models/recommend")[1]["versions"] == [VERSION]


def test_bodies_have_a_limit_and_absent_ids_stay_absent(pod: Pod) -> None:
    assert "id" not in rest(pod, {"inputs": [user("ann")]})[1]
    status, answer = rest(pod, {"inputs": [user("ann")], "parameters": {"x": "y" * (9 << 20)}})
    assert status == 413
    assert "the body has more than" in answer["error"]


def counted(pod: Pod, text: str) -> float:
    """The sum of the metrics whose line begins so."""
    with urllib.request.urlopen(f"http://{pod.transformer.http_url}/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(text))


def test_what_happens_is_counted(pod: Pod) -> None:
    stale = 'kuberec_feature_lookups_total{status="stale"}'
    refused = 'kuberec_requests_total{code="INVALID_ARGUMENT",protocol="rest"}'
    before = counted(pod, stale), counted(pod, refused)
    ask(pod, user_id=["old"])
    rest(pod, {"inputs": []})
    assert (counted(pod, stale), counted(pod, refused)) == (before[0] + 1, before[1] + 1)
    assert counted(pod, 'kuberec_stage_seconds_count{stage="predictor"}') > 0
    assert counted(pod, "kuberec_queue_seconds_count") > 0
    assert counted(pod, f'kuberec_model_info{{version="{VERSION}"}}') == 1


def test_metrics_are_kept_in_memory_and_leave_no_file(pod: Pod) -> None:
    ask(pod, user_id=["ann"])  # for which Feast was imported
    assert counted(pod, 'kuberec_feature_lookups_total{status="ok"}') >= 1
    assert list((pod.transformer.log.parent / "tmp").iterdir()) == []


def test_a_request_is_a_trace(pod: Pod) -> None:
    traceparent = f"00-{TRACE}-{PARENT}-01"
    rest(pod, {"inputs": [user("ann")]}, **{"traceparent": traceparent, "x-request-id": "r7"})
    deadline = time.monotonic() + 10
    wanted = bytes.fromhex(TRACE)
    sent = b""
    while sent.count(wanted) < 3:  # the request, its features, its Triton: not all sent at once
        assert time.monotonic() < deadline, sent
        time.sleep(0.05)
        sent = b"".join(body for body in pod.collector.bodies if wanted in body)
    assert bytes.fromhex(PARENT) in sent
    for text in (b"recommend", b"features", b"triton", b"r7", b"kuberec-transformer"):
        assert text in sent


def test_a_triton_that_hangs_is_explained_and_not_ready(pod: Pod) -> None:
    os.kill(pod.triton.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        status, answer = rest(pod, {"inputs": [user("ann")]})
        assert 0.9 < time.monotonic() - began < 5
        assert status == 503
        assert answer["error"].startswith("Triton did not answer within 1 s")
        inputs = [tensor(triton_grpc, "user_id", ["ann"])]
        with (
            triton_grpc.InferenceServerClient(pod.transformer.grpc_url) as client,
            pytest.raises(InferenceServerException) as refused,
        ):
            client.infer("recommend", inputs, client_timeout=0.3)
        assert refused.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert not pod.transformer.ready()
        assert pod.transformer.answers()
    finally:
        os.kill(pod.triton.process.pid, signal.SIGCONT)
    assert rest(pod, {"inputs": [user("ann")]})[0] == 200
    assert pod.transformer.ready()


def test_it_has_no_torch(pod: Pod) -> None:
    maps = Path(f"/proc/{pod.transformer.process.pid}/maps").read_text()
    assert "grpc" in maps
    assert "torch" not in maps


def test_sigterm_finishes_what_is_under_way(pod: Pod) -> None:
    """Last: it ends the transformer."""
    channel = grpc.insecure_channel(pod.transformer.grpc_url)
    os.kill(pod.triton.process.pid, signal.SIGSTOP)  # holds a request up
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ask(pod, user_id=["ann"])))
    thread.start()
    time.sleep(0.3)
    os.kill(pod.transformer.process.pid, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(pod.triton.process.pid, signal.SIGCONT)
    thread.join(10)
    channel.close()
    assert found[0].as_numpy("feature_status").tolist() == [b"ok"]
    deadline = time.monotonic() + 10
    while alive(pod.transformer.process):
        assert time.monotonic() < deadline
        time.sleep(0.05)
