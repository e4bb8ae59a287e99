"""A transformer's side door: answers as clients get them, uncounted, and a sample of what they ask.

On a real transformer with its Triton, and behind a real Envoy.
"""

import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from feature_stores import sqlite_store
from tiny_endpoint import HISTORIES, VERSION
from tiny_transformer import (
    QUICK,
    REQUESTS,
    Parts,
    ask,
    get,
    numbers,
    sample,
    transformer,
    users,
    wait_until,
)
from tiny_version import catalogue, write_tiny_version
from wire import INFER, Answer, rest_request
from wire_mistakes import REST

from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.replica import Place, Replica, run_replica
from serving.embedded.transformer import TransformerPorts, TransformerServer, launch_transformer
from serving.ports import LOCAL, free_ports
from serving.process import alive
from serving.settings import ServingConfig

pytestmark = pytest.mark.timeout(120)


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
    assert f'"port_value": {replica.transformer.side_port}' not in text


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
        wait_until(server.lost_a_port)


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


def test_a_transformer_without_one_is_replaced(tmp_path: Path) -> None:
    """One that an earlier kuberec started: a rollout could not ask it."""
    home, config = tmp_path / "home", ServingConfig()
    place = Place(home / "serving", VERSION)
    place.repository.parent.mkdir(parents=True)
    write_tiny_version(place.repository, catalogue(), VERSION)
    sqlite_store(place.feature_store, HISTORIES)

    def run(old: Replica | None = None) -> Replica:
        return run_replica(place, config, lambda message: None, old)

    first = run()
    started = [first]
    try:
        earlier = first.transformer.model_copy(update={"side_port": 0})
        second = run(first.model_copy(update={"transformer": earlier}))
        started.append(second)
        assert first.transformer.alive()  # until the door points to the other
        assert second.triton == first.triton
        assert not {*second.transformer.ports} & {*first.transformer.ports}
        assert sample(second.transformer) == []
        assert run(second) == second
        second.transformer.stop()
        third = run(second)
        started.append(third)
        assert third.transformer.ports == second.transformer.ports
        assert sample(third.transformer) == []
    finally:
        for replica in started:
            replica.stop()
