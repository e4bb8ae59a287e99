"""The clients' own part: retries, deadlines, errors, reading answers; a gRPC server plays along."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from serving.client import (
    AsyncRecommendClient,
    Recommendations,
    RecommendClient,
    RecommendError,
    RetryPolicy,
)
from serving.client.answers import read_answers
from serving.client.connection import secure, target
from serving.client.errors import explain
from serving.client.requests import build_request
from serving.ports import free_ports

FAST = RetryPolicy(first_delay_s=0.01, max_delay_s=0.02)


def response(request: Any, version: str = "abc", without: Collection[str] = ()) -> Any:
    """One item and one place of padding for every row."""
    rows = request.inputs[0].shape[0]
    ids = np.array([[b"one", b""]] * rows, dtype=object)
    answer = service_pb2.ModelInferResponse(model_version=version, id=request.id)
    for name, kind, raw, shape in (
        ("item_ids", "BYTES", serialize_byte_tensor(ids).item(), [rows, 2]),
        ("scores", "FP32", np.array([[2.5, -1e9]] * rows, "<f4").tobytes(), [rows, 2]),
        ("feature_age_seconds", "FP64", np.array([7.5] * rows, "<f8").tobytes(), [rows]),
        (
            "feature_status",
            "BYTES",
            serialize_byte_tensor(np.array([b"ok"] * rows, dtype=object)).item(),
            [rows],
        ),
    ):
        if name not in without:
            answer.outputs.add(name=name, datatype=kind, shape=shape)
            answer.raw_output_contents.append(raw)
    return answer


class Endpoint(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with what `plan` holds in turn: a status to abort with, or None for an answer."""

    def __init__(self) -> None:
        self.plan: list[grpc.StatusCode | None] = []
        self.slow_s = 0.0
        self.answer: dict[str, Any] = {}
        self.seen: list[Any] = []
        self.deadlines: list[float] = []  # of each attempt, on time.monotonic()
        self.peers: set[str] = set()
        self.metadata: dict[str, Any] = {}  # of the latest attempt

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self.seen.append(request)
        self.deadlines.append(time.monotonic() + context.time_remaining())
        self.peers.add(context.peer())
        self.metadata = dict(context.invocation_metadata())
        time.sleep(self.slow_s)
        code = self.plan.pop(0) if self.plan else None
        if code is not None:
            context.abort(code, "by plan")
        context.send_initial_metadata([("x-kuberec-version", "of-the-gateway")])
        return response(request, **self.answer)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    (port,) = free_ports(1)
    endpoint.url = f"127.0.0.1:{port}"
    server = start(endpoint, port)
    yield endpoint
    server.stop(0).wait()


def start(endpoint: Endpoint, port: int) -> Any:
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(endpoint, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def blocking(
    url: str, retries: RetryPolicy | None = FAST, client: Any = None, **call: Any
) -> Recommendations:
    with RecommendClient(url, retries=retries, **(client or {})) as made:
        return made.recommend(**call)


def asynchronous(
    url: str, retries: RetryPolicy | None = FAST, client: Any = None, **call: Any
) -> Recommendations:
    async def ask() -> Recommendations:
        async with AsyncRecommendClient(url, retries=retries, **(client or {})) as made:
            return await made.recommend(**call)

    return asyncio.run(ask())


Ask = Callable[..., Recommendations]
both = pytest.mark.parametrize("ask", [blocking, asynchronous])


@both
def test_an_answer_is_typed(endpoint: Endpoint, ask: Ask) -> None:
    found = ask(endpoint.url, user_id="196", k=2, exclude=["é"], request_id="r-1")
    assert found == Recommendations(["one"], [2.5], "abc", "ok", 7.5, "r-1")
    assert endpoint.metadata["x-request-id"] == "r-1"  # what gateways log
    (request,) = endpoint.seen
    sent = {each.name: (each.datatype, list(each.shape)) for each in request.inputs}
    assert sent == {"user_id": ("BYTES", [1, 1]), "exclude": ("BYTES", [1, 1]), "k": ("INT64", [1])}
    assert request.raw_input_contents[1] == b"\x02\0\0\0\xc3\xa9"


@both
def test_unavailable_is_repeated_within_one_deadline(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.plan, endpoint.slow_s = [grpc.StatusCode.UNAVAILABLE] * 3, 0.2
    assert ask(endpoint.url, user_id="1", timeout_s=5).item_ids == ["one"]
    assert len(endpoint.seen) == 4
    # One point in time for all; gRPC rounds what it sends by up to 0.1 s.
    assert max(endpoint.deadlines) - min(endpoint.deadlines) < 0.3
    assert len(endpoint.peers) == 1  # all on one connection


@both
def test_attempts_end(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.plan = [grpc.StatusCode.UNAVAILABLE] * 9
    with pytest.raises(RecommendError, match=r"cannot answer now.*after 4 attempts: by plan") as e:
        ask(endpoint.url, user_id="1")
    assert (e.value.code, len(endpoint.seen)) == ("UNAVAILABLE", 4)


@both
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("INVALID_ARGUMENT", "refused the request"),
        ("FAILED_PRECONDITION", "refused the request"),
        ("NOT_FOUND", "refused the request"),
        ("DEADLINE_EXCEEDED", "did not answer within"),
        ("UNIMPLEMENTED", "does not speak the Open Inference Protocol"),
        ("INTERNAL", "failed to answer"),
        ("RESOURCE_EXHAUSTED", "failed to answer"),
    ],
)
def test_anything_else_is_not_repeated(
    endpoint: Endpoint, ask: Ask, code: str, message: str
) -> None:
    endpoint.plan = [grpc.StatusCode[code]]
    with pytest.raises(RecommendError, match=rf"{message}.*\({code}: by plan\)") as error:
        ask(endpoint.url, user_id="1")
    assert (error.value.code, len(endpoint.seen)) == (code, 1)


@both
def test_the_deadline_ends_a_slow_answer(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.slow_s = 1.0
    began = time.monotonic()
    with pytest.raises(RecommendError, match=r"did not answer within 0\.2 s") as error:
        ask(endpoint.url, user_id="1", timeout_s=0.2)
    assert 0.15 < time.monotonic() - began < 0.9
    assert (error.value.code, len(endpoint.seen)) == ("DEADLINE_EXCEEDED", 1)


@both
def test_no_attempt_is_made_after_the_deadline(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.plan = [grpc.StatusCode.UNAVAILABLE] * 9
    slow = RetryPolicy(attempts=9, first_delay_s=60, max_delay_s=60)
    began = time.monotonic()
    with pytest.raises(RecommendError, match="UNAVAILABLE"):
        ask(endpoint.url, slow, user_id="1", timeout_s=0.01)
    assert time.monotonic() - began < 1  # it does not wait for what it will not do
    assert len(endpoint.seen) == 1


@both
def test_nobody_there_is_said_at_once(ask: Ask) -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    message = rf"nothing answers at 127\.0\.0\.1:{port}; `kuberec serve` starts"
    with pytest.raises(RecommendError, match=message) as error:
        ask(f"http://127.0.0.1:{port}/", user_id="1")
    assert error.value.code == "UNAVAILABLE"
    assert time.monotonic() - began < 3


def test_a_server_that_comes_back_is_found_by_the_same_client(endpoint: Endpoint) -> None:
    (port,) = free_ports(1)
    first = start(endpoint, port)
    with RecommendClient(f"127.0.0.1:{port}", retries=RetryPolicy(attempts=1)) as client:
        assert client.recommend(user_id="1").item_ids == ["one"]
        first.stop(0).wait()
        with pytest.raises(RecommendError, match="UNAVAILABLE"):
            client.recommend(user_id="1")
        second = start(endpoint, port)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                assert client.recommend(user_id="1").item_ids == ["one"]
                break
            except RecommendError:
                time.sleep(0.02)
        else:
            pytest.fail("not found again within 5 s")
        second.stop(0).wait()


@both
def test_a_long_request_id_breaks_no_connection(endpoint: Endpoint, ask: Ask) -> None:
    name = "r" * 20_000  # more than gRPC accepts in a header
    assert ask(endpoint.url, user_id="u", request_id=name).request_id == name
    assert "x-request-id" not in endpoint.metadata


def test_a_cancelled_call_ends(endpoint: Endpoint) -> None:
    endpoint.slow_s = 2.0

    async def ask() -> None:
        async with AsyncRecommendClient(endpoint.url) as client:
            await asyncio.wait_for(client.recommend(user_id="1"), 0.1)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(ask())
    assert time.monotonic() - began < 1


def test_many_calls_share_one_connection(endpoint: Endpoint) -> None:
    async def ask() -> list[Recommendations]:
        async with AsyncRecommendClient(endpoint.url) as client:
            names = [f"r{i}" for i in range(50)]
            calls = [client.recommend(user_id="1", request_id=name) for name in names]
            return await asyncio.gather(*calls)

    assert [each.request_id for each in asyncio.run(ask())] == [f"r{i}" for i in range(50)]
    assert len(endpoint.peers) == 1


def test_a_response_of_another_model_is_explained(endpoint: Endpoint) -> None:
    endpoint.answer = {"without": ["scores"]}
    with pytest.raises(RecommendError, match=r"but not as a recommend endpoint: .*item_ids"):
        blocking(endpoint.url, user_id="1")


@both
def test_a_bare_triton_and_the_gateways_word(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.answer = {"version": "1", "without": ["feature_status", "feature_age_seconds"]}
    found = ask(endpoint.url, history=[])
    assert found == Recommendations(["one"], [2.5], "of-the-gateway", None, None, None)


def test_typed_contents_are_read_like_raw_ones() -> None:
    answer = service_pb2.ModelInferResponse(model_version="1")
    ids = answer.outputs.add(name="item_ids", datatype="BYTES", shape=[1, 2])
    ids.contents.bytes_contents.extend([b"a", "ü".encode()])
    scores = answer.outputs.add(name="scores", datatype="FP32", shape=[1, 2])
    scores.contents.fp32_contents.extend([2.0, 1.0])
    assert read_answers(answer, None) == [Recommendations(["a", "ü"], [2.0, 1.0])]


def test_requests_that_make_no_sense_are_refused_before_they_are_sent() -> None:
    with pytest.raises(ValueError, match="name users, or give histories"):
        build_request(None, None, None, 5, None)
    with pytest.raises(ValueError, match="one of each for every row"):
        build_request(["a", "b"], [["x"]], None, None, None)
    for users, histories, excludes in (
        ("196", None, None),
        (None, "196", None),
        (None, ["196"], None),
        (["196"], None, ["50"]),
    ):
        with pytest.raises(ValueError, match="a string where a list of ids belongs"):
            build_request(users, histories, excludes, None, None)
    with pytest.raises(ValueError, match="no 64-bit number"):
        build_request(["196"], None, None, 2**63, None)


def test_rows_of_mixed_lengths_are_padded() -> None:
    request = build_request(None, [["a", "bc"], []], None, None, None)
    assert list(request.inputs[0].shape) == [2, 2]
    assert request.raw_input_contents[0] == b"\1\0\0\0a\2\0\0\0bc" + b"\0" * 8


def test_who_is_away_is_told_apart() -> None:
    def said(details: str) -> str:
        return str(explain("host:1", "UNAVAILABLE", details, timeout_s=1))

    assert "nothing answers at host:1" in said("failed to connect to all addresses; last error: x")
    assert "nothing answers at host:1" in said("DNS resolution failed for host:1: NXDOMAIN")
    # Somebody answers, and says what is away behind him.
    assert "host:1 cannot answer now" in said("Triton cannot answer now (failed to connect)")


@pytest.mark.parametrize("url", ["host:1", "http://host:1", "grpc://host:1/"])
def test_addresses(url: str) -> None:
    assert target(url) == "host:1"


@both
def test_a_gateway_gets_the_hosts_name_and_the_key(endpoint: Endpoint, ask: Ask) -> None:
    named = {"authority": "recommend-kuberec.example.com", "headers": {"X-API-Key": "k1"}}
    assert ask(endpoint.url, client=named, user_id="1", request_id="r").item_ids == ["one"]
    assert endpoint.metadata["x-api-key"] == "k1"
    assert endpoint.metadata["x-request-id"] == "r"


@both
def test_a_token_is_asked_for_each_time(endpoint: Endpoint, ask: Ask) -> None:
    tokens = iter(["old", "new"])
    named = {"headers": lambda: {"authorization": f"Bearer {next(tokens)}"}}
    endpoint.plan = [grpc.StatusCode.UNAVAILABLE]
    assert ask(endpoint.url, client=named, user_id="1").item_ids == ["one"]
    assert endpoint.metadata["authorization"] == "Bearer new"


@both
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "wants to know who asks: send an API key or a token"),
        (grpc.StatusCode.PERMISSION_DENIED, "does not let this API key or token in"),
        (grpc.StatusCode.UNIMPLEMENTED, "does a gateway there need its host name"),
    ],
)
def test_what_a_gateway_refuses_is_explained(
    endpoint: Endpoint, ask: Ask, code: grpc.StatusCode, says: str
) -> None:
    endpoint.plan = [code]
    with pytest.raises(RecommendError, match=says) as refused:
        ask(endpoint.url, user_id="1")
    assert refused.value.code == code.name


def test_tls_by_the_address() -> None:
    assert (secure("https://shop.example.com"), secure("shop.example.com:443")) == (True, False)
    assert target("https://shop.example.com") == "shop.example.com:443"
    assert target("https://shop.example.com:8443/") == "shop.example.com:8443"
