"""What a Kubeflow Pipelines host may answer, and what is made of it for a person."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.cluster.client import HostError, connect
from pipelines.cluster.submit import find_pipeline


@contextmanager
def host(status: int, body: str) -> Iterator[tuple[str, list[str | None]]]:
    """A server that answers everything alike; its address, and the tokens that it was shown."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("authorization"))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", tokens
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (401, "no token", "put a token into KFP_TOKEN"),
        (403, "cannot list pipelines", "bind it to a role"),
        (404, "", "Is --host the API's address"),
        (400, "Namespace is required", "name yours by --namespace"),
        (500, "database is gone", "500, database is gone"),
    ],
)
def test_a_refusal_names_host_action_and_next_step(status, said, told):
    with host(status, json.dumps({"message": said})) as (address, _):
        with pytest.raises(HostError) as error:
            find_pipeline(connect(address, None), "shop")
        message = str(error.value)
    assert f"{address} refused to look for pipeline 'shop': {status}" in message
    assert said in message
    assert told in message
    assert "\n" not in message


def test_a_page_that_is_no_api_is_a_refusal_too():
    refused = pytest.raises(HostError, match="refused to look for pipeline 'shop': 502")
    with host(502, "<html>Bad Gateway</html>") as (address, _), refused:
        find_pipeline(connect(address, None), "shop")


def test_the_token_comes_from_the_variable_or_else_from_the_pods_volume(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("of-the-pod\n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with host(200, "{}") as (address, tokens):
        assert find_pipeline(connect(address, None), "shop") is None
        (tmp_path / "token").write_text("renewed")
        door = connect(address, None)
        find_pipeline(door, "shop")
        (tmp_path / "token").write_text("once more")
        find_pipeline(door, "shop")
        monkeypatch.setenv("KFP_TOKEN", "mine")
        find_pipeline(connect(address, None), "shop")
    assert tokens == [f"Bearer {t}" for t in ("of-the-pod", "renewed", "once more", "mine")]


def test_an_address_without_a_scheme_is_refused():
    with pytest.raises(HostError, match=r"--host 'kubeflow:8888': write it with http://"):
        connect("kubeflow:8888", None)
