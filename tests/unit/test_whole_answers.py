"""An answer's head and body leave by one call, over a real server and a real connection."""

import http.client
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from serving.ports import free_ports
from serving.transformer.whole_answers import WholeAnswers

WRITES: list[bytes] = []


class _Noting:
    """What it is asked to write, noted and written."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        WRITES.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Noted(WholeAnswers):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Noting(transport))


async def _answer(request: Request) -> Response:
    return Response(b"x" * int(request.query_params["size"]))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    (port,) = free_ports(1)
    app = Starlette()
    app.add_route("/", _answer, methods=["GET", "POST"])  # and HEAD, as with any GET
    config = uvicorn.Config(app, port=port, http=_Noted, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    WRITES.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    yield connection
    connection.close()


@pytest.mark.parametrize("size", [0, 1, 500, 1 << 20])
def test_head_and_body_are_one_write(connection: http.client.HTTPConnection, size: int) -> None:
    for _ in range(2):  # on one connection
        connection.request("POST", f"/?size={size}", b"{}")
        assert connection.getresponse().read() == b"x" * size
    assert len(WRITES) == 2
    assert all(each.startswith(b"HTTP/1.1 200") for each in WRITES)


def test_an_answer_without_a_body_comes_too(connection: http.client.HTTPConnection) -> None:
    connection.request("HEAD", "/?size=5")
    response = connection.getresponse()
    assert (response.status, response.headers["content-length"]) == (200, "5")
    connection.request("POST", "/?size=3", b"{}")
    response.read()
    assert connection.getresponse().read() == b"xxx"


def test_a_connection_that_the_client_closes_gets_its_answer(
    connection: http.client.HTTPConnection,
) -> None:
    connection.request("POST", "/?size=7", b"{}", {"connection": "close"})
    assert connection.getresponse().read() == b"x" * 7
    assert len(WRITES) == 1


def test_a_client_that_asks_first_may_send(connection: http.client.HTTPConnection) -> None:
    connection.putrequest("POST", "/?size=2")
    connection.putheader("expect", "100-continue")
    connection.putheader("content-length", "2")
    connection.endheaders(b"{}")
    assert connection.getresponse().read() == b"xx"
