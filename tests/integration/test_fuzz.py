"""Thousands of strange requests: each answered or refused with a reason, and nothing left behind.

The same requests in every run (derandomised); what hypothesis finds it makes small.
"""

import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strange_requests import (
    damaged,
    grpc_tensors,
    nearly_right_requests,
    odd_headers,
    rest_bytes,
    right_requests,
)
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import REQUESTS
from wire import Answer, Wire, grpc_request, packed

from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.parity import golden_answers

pytestmark = pytest.mark.timeout(180)

FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,  # the wire has one of its own
    suppress_health_check=list(HealthCheck),
)
GRPC_REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND"}
REST_REFUSALS = {400}


class Load(NamedTuple):
    """What a process holds."""

    handles: int
    threads: int
    rss_mib: float


class Tally:
    """Counts answers by code; every one must be an answer, or a refusal with a reason."""

    def __init__(self) -> None:
        self.codes: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, answer: Answer) -> None:
        self.codes[kind, str(answer.code)] += 1
        if answer.code in (200, "OK"):
            assert answer.outputs
        else:
            assert answer.code in GRPC_REFUSALS | REST_REFUSALS, answer
            assert len(answer.reason.split()) >= 3, answer

    def of(self, kind: str) -> Counter[str]:
        return Counter({code: n for (each, code), n in self.codes.items() if each == kind})


def test_strange_requests(served: EmbeddedEndpoint) -> None:
    assert_golden(served)
    before = settled(served)
    tally = Tally()
    with Wire(served.url) as wire:
        ask_over_rest(wire, tally)
        ask_over_grpc(wire, tally)
    assert sum(tally.codes.values()) >= 2_500
    # Right ones were all answered; of the others there were some of either kind.
    assert tally.of("right, REST") == {"200": 300}
    for kind in ("nearly right, REST", "any bytes, REST", "changed gRPC", "damaged gRPC"):
        assert len(tally.of(kind)) >= 2, tally.codes
    assert_golden(served)
    after = settled(served)
    assert after.keys() == before.keys()  # the same processes, none ended or added
    for process, held in after.items():
        was = before[process]
        assert held.handles <= was.handles + 2, (process, was, held)
        assert held.threads <= was.threads + 2, (process, was, held)
        assert held.rss_mib <= was.rss_mib + 50, (process, was, held)


def ask_over_rest(wire: Wire, tally: Tally) -> None:
    @settings(FUZZ, max_examples=300)
    @given(right_requests(), odd_headers())
    def right(request: Any, headers: dict[str, str]) -> None:
        tally.note("right, REST", wire.rest(request, headers))

    @settings(FUZZ, max_examples=800)
    @given(nearly_right_requests())
    def nearly_right(request: Any) -> None:
        tally.note("nearly right, REST", wire.rest(request))

    @settings(FUZZ, max_examples=500)
    @given(rest_bytes())
    def any_bytes(request: tuple[bytes, dict[str, str]]) -> None:
        tally.note("any bytes, REST", wire.rest(*request))

    right()
    nearly_right()
    any_bytes()


def ask_over_grpc(wire: Wire, tally: Tally) -> None:
    whole = grpc_request(
        ("user_id", [2], "BYTES", None),
        ("exclude", [2, 1], "BYTES", None),
        raw=[packed(b"196", b"nobody"), packed(b"item-7", b"")],
    ).SerializeToString()

    @settings(FUZZ, max_examples=700)
    @given(grpc_tensors())
    def changed(request: dict[str, Any]) -> None:
        message = grpc_request(*request["tensors"], raw=request["raw"])
        tally.note("changed gRPC", wire.grpc(message))

    @settings(FUZZ, max_examples=400)
    @given(damaged(whole))
    def damaged_message(message: bytes) -> None:
        tally.note("damaged gRPC", wire.grpc(message))

    @settings(FUZZ, max_examples=100)
    @given(st.binary(max_size=100))
    def any_bytes(message: bytes) -> None:
        tally.note("any bytes, gRPC", wire.grpc(message))

    changed()
    damaged_message()
    any_bytes()


def assert_golden(served: EmbeddedEndpoint) -> None:
    """Answers are those of bare ONNX Runtime; by user, those to his history."""
    stored = [{"history": history or [], "exclude": []} for history, _ in HISTORIES.values()]
    requests = [*REQUESTS, *stored]
    golden = golden_answers(served.home.versions / VERSION, requests)
    with RecommendClient(served.url) as client:
        found = [client.recommend(each["history"], each["exclude"]) for each in REQUESTS]
        found += [client.recommend(user_id=user) for user in HISTORIES]
    for answer, expected in zip(found, golden, strict=True):
        assert answer.item_ids == expected.item_ids
        assert answer.scores == pytest.approx(expected.scores, abs=1e-4)


def settled(served: EmbeddedEndpoint) -> dict[tuple[str, int], Load]:
    """What every process of the endpoint holds, by name and pid, once it does not fall any more."""
    state = served.state()
    assert state.gateway is not None
    replica = state.replicas[VERSION]
    leaders = [replica.triton.process, replica.transformer.process, state.gateway.process]
    sessions = {leader.pid for leader in leaders}
    last: dict[tuple[str, int], Load] = {}
    for _ in range(20):
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            # A process of somebody else may end between the listing and the reading.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name, _, rest = (entry / "stat").read_text().rpartition(")")
                if int(rest.split()[3]) in sessions:
                    found[name.partition("(")[2], int(entry.name)] = load(entry)
        if last and all(
            held.handles >= last[key].handles and held.threads >= last[key].threads
            for key, held in found.items()
            if key in last
        ):
            break
        last = found
        time.sleep(0.5)
    return found


def load(entry: Path) -> Load:
    """Of a process by its folder in /proc."""
    status = (entry / "status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return Load(
        handles=len(list((entry / "fd").iterdir())),
        threads=len(list((entry / "task").iterdir())),
        rss_mib=int(rss.split()[1]) / 1024,
    )
