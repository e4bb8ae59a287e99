"""Every mistake of a client is answered as his own, with what is wrong and what is allowed."""

import json
import re
import socket
from collections.abc import Iterator

import pytest
from tiny_endpoint import VERSION
from tiny_version import K
from wire import Answer, Wire, binary_body, grpc_request, packed, rest_request, tensor
from wire_mistakes import BINARY, BINARY_USER, GOOD, GRPC, RAW_USER, REST, USER

from serving.embedded.endpoint import EmbeddedEndpoint

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def wire(served: EmbeddedEndpoint) -> Iterator[Wire]:
    with Wire(served.url) as wire:
        yield wire


@pytest.mark.parametrize("case", REST)
def test_rest(wire: Wire, case: str) -> None:
    body, reason = REST[case]
    refused(wire.rest(body), 400, reason)


@pytest.mark.parametrize("case", BINARY)
def test_binary_data_behind_the_json(wire: Wire, case: str) -> None:
    (body, headers), reason = BINARY[case]
    refused(wire.rest(body, headers), 400, reason)


@pytest.mark.parametrize("case", GRPC)
def test_grpc(wire: Wire, case: str) -> None:
    message, reason = GRPC[case]
    refused(wire.grpc(message), "INVALID_ARGUMENT", reason)


def test_unknown_models_and_versions(wire: Wire) -> None:
    body, message = rest_request(USER), grpc_request(RAW_USER, raw=[GOOD], model="no")
    refused(wire.rest(body, path="/v2/models/no/infer"), 404, "no does not exist")
    refused(wire.grpc(message), "NOT_FOUND", "no does not exist")
    refused(wire.grpc(b""), "NOT_FOUND", "does not exist")
    path = "/v2/models/recommend/versions/{}/infer"
    reason = f"'9' is not served here; allowed: {VERSION}, or none"
    refused(wire.rest(body, path=path.format(9)), 404, reason)
    refused(wire.grpc(grpc_request(RAW_USER, raw=[GOOD], version="9")), "NOT_FOUND", reason)
    assert wire.rest(body, path=path.format(VERSION)).code == 200
    assert wire.grpc(grpc_request(RAW_USER, raw=[GOOD], version=VERSION)).code == "OK"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/recommend/infer", 405),
        ("POST", "/v2/repository/models/recommend/load", 404),
        ("POST", "/v1/models/recommend:predict", 404),
        ("GET", "/metrics", 404),
        ("GET", "/", 404),
        ("GET", "/v2/models/no/ready", 404),
        ("GET", "/v2/", 404),
    ],
)
def test_other_paths(wire: Wire, method: str, path: str, status: int) -> None:
    refused(wire.rest({}, path=path, method=method), status, r"\w")


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload", "Nothing"])
def test_other_methods(wire: Wire, method: str) -> None:
    refused(wire.grpc(b"", method), "UNIMPLEMENTED", r"\w")


def test_requests_beyond_any_size(wire: Wire) -> None:
    large = "x" * 9_000_000
    refused(wire.rest(rest_request(tensor("user_id", [1], [large]))), 413, "more than 8388608 byte")
    refused(
        wire.grpc(grpc_request(("user_id", [1], "BYTES", [large.encode()]))),
        "RESOURCE_EXHAUSTED",
        "larger than max",
    )


@pytest.mark.parametrize("name", ["x-request-id", "traceparent", "tracestate"])
def test_a_header_longer_than_triton_takes_is_not_passed_on(wire: Wire, name: str) -> None:
    answer = wire.rest(rest_request(USER), {name: "a" * 20_000})
    assert answer.code == 200, answer


def test_requests_that_are_unusual_but_right(wire: Wire) -> None:
    expected = wire.rest(rest_request(USER)).outputs
    assert len(expected["item_ids"]) == K
    body, headers = binary_body(BINARY_USER, GOOD)
    nested = tensor("user_id", [1, 1], [["196"]])
    escaped = json.dumps(rest_request(USER)).replace("196", r"\u00319\u0036").encode()
    for answer in (
        wire.rest(rest_request(nested)),
        wire.rest(escaped),
        wire.rest(body, headers),
        wire.rest(rest_request(USER, tensor("exclude", [1, 3], ["", "gone", ""]))),
        wire.rest(rest_request(USER, id="", parameters={"anything": 1}, outputs=[])),
    ):
        assert (answer.code, answer.outputs["item_ids"]) == (200, expected["item_ids"])
    ids = packed(*(item.encode() for item in expected["item_ids"]))
    for message in (
        grpc_request(RAW_USER, raw=[GOOD]),
        grpc_request(("user_id", [1, 1], "BYTES", [b"196"])),
        grpc_request(("user_id", [1], "BYTES", [b"196"]), ("k", [1], "INT32", [K])),
    ):
        assert wire.grpc(message).outputs["item_ids"] == ids


def refused(answer: Answer, code: int | str, reason: str) -> None:
    assert answer.code == code, answer
    assert re.search(reason, answer.reason), answer.reason


def test_no_request_is_logged_but_in_the_access_log(wire: Wire, served: EmbeddedEndpoint) -> None:
    def sizes() -> dict[str, int]:
        names = ("envoy.log", f"transformer-{VERSION}.log", f"triton-{VERSION}.log")
        return {name: (served.home.logs / name).stat().st_size for name in names}

    before = sizes()
    for body, _ in REST.values():
        wire.rest(body)
    for message, _ in GRPC.values():
        wire.grpc(message)
    assert wire.rest(rest_request(USER)).code == 200
    transformer = served.state().replicas[VERSION].transformer
    for port in transformer.ports:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
            stranger.sendall(b"\x00\xff no HTTP at all\r\n\r\n")
            stranger.recv(100)
    assert sizes() == before
