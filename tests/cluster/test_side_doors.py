"""Pods asked through a real API server: what they answer, and what keeps them from it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from data_plane import own_address
from played_objects import READY
from room import Object, Room, as_account, new_room

from serving.kubernetes.api import POD, Cluster
from serving.kubernetes.errors import ClusterError, Forbidden, PodRefused
from serving.ports import free_ports
from serving.rollout.evidence import MetricsUnavailable, Ranked, Request
from serving.rollout.kserve import side_doors
from serving.rollout.kserve.side_doors import SideDoors, ask_both, sample

ROWS = [{"user_id": "ü", "history": None, "exclude": ["i"], "k": 3}]
ANSWER = {"outputs": [{"name": "item_ids", "data": ["a", ""]}, {"name": "scores", "data": [1, -1]}]}


class Door(BaseHTTPRequestHandler):
    """A transformer's; a request by user "hangs" hangs, one by "fails" fails."""

    def do_GET(self) -> None:
        self._answer(200, {"requests": ROWS, "asked": self.path})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        user = body["inputs"][0]["data"][0]
        if user == "hangs":
            time.sleep(3)
        self._answer(500 if user == "fails" else 200, ANSWER)

    def _answer(self, status: int, content: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


class Doors(SideDoors):
    def __init__(self, cluster: Cluster, namespace: str, number: int) -> None:
        super().__init__(cluster, namespace)
        self.number = number

    def port(self, pod: Object) -> int:
        return self.number


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with new_room() as made:
        yield made


@pytest.fixture(scope="module")
def pod(room: Room) -> Object:
    spec = {"containers": [{"name": "one", "image": "one"}], "schedulerName": "nobody"}
    room.create(POD, {"metadata": {"name": "one"}, "spec": spec})
    address = own_address()
    where = {"podIP": address, "podIPs": [{"ip": address}]}
    return room.patch_status(POD, "one", READY | where)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer((own_address(), 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def doors(room: Room, port: int) -> Doors:
    return Doors(room.cluster, room.name, port)


def by(user: str) -> Request:
    return Request("live", user_id=user)


def test_what_clients_asked(doors: Doors, pod: Object) -> None:
    one = Request("live", "ü", None, ("i",), 3)
    assert sample(doors, [pod], [pod], 7) == [one, one]
    assert sample(doors, [pod], [pod], 1) == [one]
    assert doors.call(pod)("GET", "/requests?limit=7", None)["asked"] == "/requests?limit=7"


def test_an_error_of_the_pods_is_an_answer(doors: Doors, pod: Object) -> None:
    fine, failed = ask_both(doors, [pod], [pod], [by("u"), by("fails")])
    assert fine.stable == fine.canary == Ranked(("a",), (1.0,))
    assert failed.stable is failed.canary is None
    with pytest.raises(PodRefused, match=r"pod 'one' in namespace '\S+' answers 500: "):
        doors.call(pod)("POST", "/v2/models/recommend/infer", {"inputs": [{"data": ["fails"]}]})


def test_a_pod_that_is_not_reached_says_nothing_of_its_version(
    room: Room, doors: Doors, pod: Object
) -> None:
    (doors.number,) = free_ports(1)
    with pytest.raises(MetricsUnavailable, match=r"side door of pod 'one', port \d+, .* Network"):
        ask_both(doors, [pod], [pod], [by("u")])
    with pytest.raises(ClusterError) as missing:
        doors.call({"metadata": {"name": "no-such"}})("GET", "/requests", None)
    assert not isinstance(missing.value, PodRefused)


def test_one_that_hangs_is_not_waited_for(
    doors: Doors, pod: Object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_doors, "_ANSWER_S", 0.5)
    began = time.monotonic()
    with pytest.raises(MetricsUnavailable):
        ask_both(doors, [pod], [pod], [by("hangs")] * 50)
    assert time.monotonic() - began < 10  # of 50 that take 3 s each


def test_who_may_not_is_told_what(room: Room, doors: Doors, pod: Object) -> None:
    stranger = Doors(as_account(room, "stranger"), room.name, doors.number)
    with pytest.raises(Forbidden, match=r"'stranger' of namespace .* may not get pods/proxy"):
        stranger.call(pod)("GET", "/requests", None)
