"""A transformer's side door: answers as clients get them, uncounted, and a sample of what they ask.

On a real transformer with its Triton, and behind a real Envoy.
"""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feature_stores import sqlite_store
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import K, catalogue, write_tiny_version
from wire import INFER, Answer, Wire, grpc_request, packed, rest_request, tensor
from wire_mistakes import REST

from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.transformer import (
    TransformerPorts,
    TransformerServer,
    launch_transformer,
    wait_for_transformer,
)
from serving.ports import LOCAL, free_ports
from serving.process import alive
from serving.settings import TransformerConfig
from serving.transformer.errors import CODES, SERVICE_FAULTS
from serving.triton.server import TritonServer, temporary_triton

# These tell what the machine does, whoever asks.
OF_THE_MACHINE = ("kuberec_feature_lookup_seconds", "kuberec_predictor_rows")
QUICK = TransformerConfig(predictor_timeout_s=1.0, lookup_timeout_s=5.0)

pytestmark = pytest.mark.timeout(120)


class Parts(NamedTuple):
    """What a transformer is started on."""

    version: Path
    store: Path
    triton: TritonServer
    folder: Path


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with parts_of(tmp_path_factory.mktemp("side-door"), items=12) as parts:
        yield parts


@contextmanager
def parts_of(folder: Path, items: int) -> Iterator[Parts]:
    version = write_tiny_version(folder / VERSION, catalogue(items), VERSION)
    store = sqlite_store(folder / "store", HISTORIES)
    with temporary_triton(version, folder / "t") as triton:
        yield Parts(version, store, triton, folder)


@contextmanager
def transformer(
    parts: Parts, config: TransformerConfig = QUICK, side_door: bool = True
) -> Iterator[TransformerServer]:
    server = launch_transformer(
        parts.version,
        TransformerPorts(*free_ports(3 if side_door else 2)),
        parts.triton.grpc_port,
        parts.store,
        config,
        parts.folder / "settings.json",
        parts.folder / "transformer.log",
    )
    try:
        wait_for_transformer(server, 60, lambda message: None)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(parts: Parts) -> Iterator[TransformerServer]:
    with transformer(parts) as server:
        yield server


def ask(url: str, body: Any, path: str = INFER) -> Answer:
    with Wire(url) as wire:
        return wire.rest(body, path=path)


def get(url: str, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://{url}{path}", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def sample(server: TransformerServer, query: str = "") -> list[dict[str, Any]]:
    status, answer = get(server.side_url, f"/requests{query}")
    assert status == 200
    return list(answer["requests"])


def numbers(server: TransformerServer) -> dict[str, float]:
    """Every metric of the transformer's own, but those of the machine."""
    with urllib.request.urlopen(f"http://{server.http_url}/metrics") as response:
        lines = response.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith("kuberec_")]
    return {name: float(value) for name, _, value in pairs if not name.startswith(OF_THE_MACHINE)}


def users(*names: str) -> Any:
    return tensor("user_id", [len(names)], list(names))


def ids(name: str, *rows: list[str]) -> Any:
    return tensor(name, [len(rows), len(rows[0])], [each for row in rows for each in row])


K_2 = tensor("k", [1], [2], "INT64")
REQUESTS = {
    "user": rest_request(users("196")),
    "batch": rest_request(users("196", "ü2", "nobody")),
    "history": rest_request(ids("history", ["item-5", "item-2"])),
    "all of it": rest_request(users("196"), ids("history", ["item-7"]), ids("exclude", ["a"]), K_2),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_it_answers_as_the_front_door_does(server: TransformerServer, name: str) -> None:
    front, side = (ask(url, REQUESTS[name]) for url in (server.http_url, server.side_url))
    assert (front.code, side.code) == (200, 200)
    front_age, side_age = (each.outputs.pop("feature_age_seconds") for each in (front, side))
    assert side.outputs == front.outputs
    assert side_age == pytest.approx(front_age, abs=60)
    versioned = f"/v2/models/recommend/versions/{VERSION}/infer"
    assert ask(server.side_url, REQUESTS[name], versioned).outputs["item_ids"]


@pytest.mark.parametrize("case", REST)
def test_it_refuses_as_the_front_door_does(server: TransformerServer, case: str) -> None:
    body, _ = REST[case]
    assert ask(server.side_url, body) == ask(server.http_url, body)


def test_nothing_that_it_is_asked_is_counted_or_sampled(server: TransformerServer) -> None:
    before, sampled = numbers(server), len(sample(server))
    for body in REQUESTS.values():
        assert ask(server.side_url, body).code == 200
    assert ask(server.side_url, {"inputs": []}).code == 400
    assert ask(server.side_url, REQUESTS["user"], "/v2/models/no/infer").code == 404
    assert ask(server.side_url, rest_request(users("x" * 9_000_000))).code == 413
    assert numbers(server) == before
    assert len(sample(server)) == sampled


def test_what_clients_ask_is_counted_by_requests_and_rows(server: TransformerServer) -> None:
    before = numbers(server)
    for body in (rest_request(users("no", "body")), REQUESTS["all of it"], {"inputs": []}):
        ask(server.http_url, body)
    ask(server.http_url, rest_request(users("x" * 9_000_000)))
    with Wire(server.grpc_url) as wire:
        assert wire.grpc(grpc_request(("user_id", [1], "BYTES", [b"196"]))).code == "OK"
    grown = {name: value - before[name] for name, value in numbers(server).items()}
    assert {name: by for name, by in grown.items() if by and "_requests_total{" in name} == {
        'kuberec_requests_total{code="OK",protocol="rest"}': 2,
        'kuberec_requests_total{code="OK",protocol="grpc"}': 1,
        'kuberec_requests_total{code="INVALID_ARGUMENT",protocol="rest"}': 2,
    }
    assert grown['kuberec_request_seconds_count{protocol="rest"}'] == 4
    assert grown['kuberec_request_seconds_count{protocol="grpc"}'] == 1
    assert 0 < grown['kuberec_request_seconds_sum{protocol="grpc"}'] < 60
    assert grown["kuberec_short_answers_total"] == 0
    lookups = {name: by for name, by in grown.items() if by and "_feature_lookups_" in name}
    assert lookups == {
        'kuberec_feature_lookups_total{status="unknown"}': 2,
        'kuberec_feature_lookups_total{status="given"}': 1,
        'kuberec_feature_lookups_total{status="ok"}': 1,
    }


def test_short_answers_are_counted_by_rows(tmp_path: Path) -> None:
    assert K == 5
    with parts_of(tmp_path, items=4) as parts, transformer(parts) as server:
        for side_door, expected in ((False, 2), (True, 2)):  # the same again, uncounted
            url = server.side_url if side_door else server.http_url
            answer = ask(url, rest_request(users("no", "body")))
            assert answer.outputs["item_ids"].count("") == 2
            assert ask(url, rest_request(users("nobody"), K_2)).code == 200  # as many as asked for
            assert numbers(server)["kuberec_short_answers_total"] == expected


def test_every_series_is_there_before_it_first_happens(parts: Parts) -> None:
    with transformer(parts) as server:
        found = numbers(server)
    for protocol in ("rest", "grpc"):
        assert found[f'kuberec_request_seconds_count{{protocol="{protocol}"}}'] == 0
        for code in {*CODES, *SERVICE_FAULTS, "OK"}:
            assert found[f'kuberec_requests_total{{code="{code}",protocol="{protocol}"}}'] == 0
    for status in ("ok", "stale", "given", "unknown", "fallback_timeout", "fallback_error"):
        assert found[f'kuberec_feature_lookups_total{{status="{status}"}}'] == 0
    assert found['kuberec_features_beyond_limit_total{policy="flag",view="user_history"}'] == 0
    assert found["kuberec_short_answers_total"] == 0


def test_the_sample_is_what_clients_sent(parts: Parts) -> None:
    with transformer(parts) as server, Wire(server.grpc_url) as wire:
        assert sample(server) == []
        for name in ("batch", "history", "all of it"):
            ask(server.http_url, REQUESTS[name])
        message = grpc_request(("user_id", [1], "BYTES", None), raw=[packed("ü7".encode())])
        assert wire.grpc(message).code == "OK"
        for body, _ in REST.values():
            assert ask(server.http_url, body).code == 400
        os.kill(parts.triton.process.pid, signal.SIGSTOP)
        try:
            assert ask(server.http_url, rest_request(users("in vain"))).code == 503
        finally:
            os.kill(parts.triton.process.pid, signal.SIGCONT)
        alone = {"history": None, "exclude": [], "k": None}
        expected = [{"user_id": user, **alone} for user in ("196", "in vain", "nobody", "ü2", "ü7")]
        expected += [
            {"user_id": None, "history": ["item-5", "item-2"], "exclude": [], "k": None},
            {"user_id": "196", "history": ["item-7"], "exclude": ["a"], "k": 2},
        ]
        found = sample(server)
        assert sorted(found, key=json.dumps) == sorted(expected, key=json.dumps)
        assert len(sample(server, "?limit=3")) == 3
        assert all(row in expected for row in sample(server, "?limit=3"))
        assert len(sample(server, "?limit=100000")) == len(expected)
    log = (parts.folder / "transformer.log").read_text()
    assert "in vain" not in log


def test_the_sample_is_bounded(parts: Parts) -> None:
    with transformer(parts, QUICK.model_copy(update={"sampled_requests": 10})) as server:
        for first in range(0, 300, 30):
            names = map(str, range(first, first + 30))
            assert ask(server.http_url, rest_request(users(*names))).code == 200
        found = sample(server)
        assert len({row["user_id"] for row in found}) == 10
        assert [row["user_id"] for row in sample(server)] != [row["user_id"] for row in found]


def test_old_requests_are_forgotten(parts: Parts) -> None:
    with transformer(parts, QUICK.model_copy(update={"sampled_for_s": 1.0})) as server:
        ask(server.http_url, REQUESTS["batch"])
        assert sample(server)
        deadline = time.monotonic() + 20
        while sample(server):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_it_can_be_off(parts: Parts) -> None:
    with transformer(parts, QUICK.model_copy(update={"sampled_requests": 0})) as server:
        ask(server.http_url, REQUESTS["batch"])
        assert sample(server) == []
        assert ask(server.side_url, REQUESTS["user"]).code == 200
    with transformer(parts, side_door=False) as server:
        assert server.side_port == 0
        assert ask(server.http_url, REQUESTS["user"]).code == 200
        assert ports_of(server) == {server.http_port, server.grpc_port}


def ports_of(server: TransformerServer) -> set[int]:
    """Those that the process listens on."""
    files = Path(f"/proc/{server.process.pid}/fd").iterdir()
    names = [str(each.readlink()) for each in files]
    inodes = {name[8:-1] for name in names if name.startswith("socket:[")}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return {
        int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes
    }


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "", "%D9%A3", "1" * 30, "1%00", "nan"])
def test_a_malformed_limit_is_explained(server: TransformerServer, limit: str) -> None:
    status, answer = get(server.side_url, f"/requests?limit={limit}")
    assert status == 400
    assert answer["error"].startswith("limit: '")
    assert answer["error"].endswith("; allowed: a whole number from 1 to 999999999")


def test_it_has_nothing_else(server: TransformerServer) -> None:
    status, answer = get(server.side_url, "/metrics")
    assert (status, answer["error"][:70]) == (
        404,
        "nothing is at /metrics; the side door has GET /requests, and inference",
    )
    assert get(server.side_url, "/requests/")[0] == 404
    assert get(server.side_url, INFER) == (
        405,
        {"error": f"GET is not for {INFER}; allowed: POST"},
    )
    assert ask(server.side_url, {}, "/requests").code == 405


def test_it_is_for_this_machine_alone(server: TransformerServer) -> None:
    assert ports_of(server) == {*server.ports}
    socket.create_connection((LOCAL, server.side_port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):  # also this machine, by another address
        socket.create_connection(("127.0.0.2", server.side_port), timeout=5)


def test_clients_do_not_get_there(served: EmbeddedEndpoint) -> None:
    replica = served.state().replicas[VERSION]
    assert get(replica.side_url, "/requests?limit=1")[0] == 200
    for url in (served.url, replica.transformer.http_url):
        assert get(url, "/requests")[0] == 404
    dump = f"http://{LOCAL}:{served.config.admin_port}/config_dump?include_eds"
    with urllib.request.urlopen(dump, timeout=10) as response:
        text = response.read().decode()
    assert f'"port_value": {replica.transformer.http_port}' in text
    assert str(replica.transformer.side_port) not in text


def test_a_taken_port_ends_the_process_with_a_word(parts: Parts) -> None:
    with socket.socket() as taken:
        taken.bind((LOCAL, 0))
        taken.listen()
        http_port, grpc_port = free_ports(2)
        server = launch_transformer(
            parts.version,
            TransformerPorts(http_port, grpc_port, taken.getsockname()[1]),
            parts.triton.grpc_port,
            parts.store,
            QUICK,
            parts.folder / "settings.json",
            parts.folder / "taken.log",
        )
        deadline = time.monotonic() + 60
        while not server.lost_a_port():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)


def test_a_stop_finishes_what_is_under_way(parts: Parts) -> None:
    config = QUICK.model_copy(update={"predictor_timeout_s": 20.0})
    with transformer(parts, config) as server:
        found: list[Answer] = []
        request = threading.Thread(
            target=lambda: found.append(ask(server.side_url, REQUESTS["user"]))
        )
        os.kill(parts.triton.process.pid, signal.SIGSTOP)  # holds it up
        try:
            before = rows_in_flight(server)
            request.start()
            wait_until(lambda: rows_in_flight(server) > before)
            os.kill(server.process.pid, signal.SIGTERM)
            wait_until(lambda: not reachable(server.side_port))
            assert alive(server.process)
        finally:
            os.kill(parts.triton.process.pid, signal.SIGCONT)
        request.join(20)
        assert [each.code for each in found] == [200]
        wait_until(lambda: not alive(server.process))


def rows_in_flight(server: TransformerServer) -> float:
    return numbers(server)["kuberec_rows_in_flight"]


def reachable(port: int) -> bool:
    try:
        socket.create_connection((LOCAL, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
