"""Killed parts, switches and splits under load: what clients see, and for how long.

One endpoint for all of it, kept running by a `kuberec serve` of its own, as an operator would.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_load import Load, ask_rest
from quick_rollouts import quick_rollout
from rich.console import Console
from tiny_version import catalogue, write_tiny_version

from pipelines.serve import stop
from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.shares import SplitRefused
from serving.ports import free_ports
from serving.rollout.embedded.rollout import rollout
from serving.settings import ServingConfig, TransformerConfig, save_settings
from serving.version import GoldenRequest, load_version

A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"

pytestmark = pytest.mark.timeout(120)


class Served:
    """The endpoint, the process that keeps it running, and the answers that are right."""

    def __init__(self, home: Path, folder: Path) -> None:
        port, admin_port = free_ports(2)
        config = ServingConfig(port=port, admin_port=admin_port, rollout=quick_rollout())
        sources = {
            version: write_tiny_version(
                folder / version, catalogue(prefix="item-"), version, seed=ord(version[0])
            )
            for version in (A, B)
        }
        self.golden: dict[str, list[GoldenRequest]] = {
            version: load_version(source).golden() for version, source in sources.items()
        }
        self.endpoint = EmbeddedEndpoint(home, config)
        rollout(sources[A], home, config)
        # Without a door nothing serves: `kuberec serve` opens it, and keeps what is there.
        gateway = self.endpoint.state().gateway
        assert gateway is not None
        os.kill(gateway.process.pid, signal.SIGKILL)
        self.output = folder / "serve.log"
        with self.output.open("w") as stream:
            self.keeper = subprocess.Popen(
                [sys.executable, "-c", "from pipelines.cli import main; main()", "serve"],
                env=os.environ | {"KUBEREC_HOME": str(home), "PYTHONUNBUFFERED": "1"},
                stdout=stream,
            )
        wait_for(lambda: "Ctrl-C stops it" in self.said())
        rollout(sources[B], home, config)

    @property
    def url(self) -> str:
        return self.endpoint.url

    def load(self) -> Load:
        return Load(self.url, self.golden)

    def said(self) -> str:
        return self.output.read_text()

    def pids(self) -> dict[str, int]:
        status = self.endpoint.status()
        parts = {name: part["pid"] for name, part in status["current"]["parts"].items()}
        return parts | {"envoy": status["gateway_pid"]}


def wait_for(condition: Callable[[], Any], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("faults")
    home = folder / "my $HOME; (état)"
    try:
        served = Served(home, folder)
        yield served
        served.keeper.send_signal(signal.SIGINT)
        assert served.keeper.wait(20) == 0
        left = [pid for pid in Path("/proc").iterdir() if _names(pid, str(home / "serving"))]
        assert left == []
    finally:
        stop(home, Console(quiet=True))


def _names(entry: Path, text: str) -> bool:
    try:
        return entry.name.isdigit() and text in (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return False


def test_a_switch_under_load_loses_no_request(served: Served) -> None:
    with served.load() as load:
        for version in (A, B, A, B):
            time.sleep(0.3)
            served.endpoint.switch(version)
            with RecommendClient(served.url) as client:
                assert client.recommend(history=[]).version == version
    assert (load.errors, load.wrong) == ([], [])
    assert load.versions.keys() == {A, B}
    assert sum(load.versions.values()) > 200


def test_a_split_is_true_to_its_weights_and_loses_no_request(served: Served) -> None:
    endpoint, share = served.endpoint, 0.2
    with served.load() as load:
        endpoint.split({B: 80, A: 20})
        begin = len(load.events)
        wait_for(lambda: len(load.events) - begin > 1500)
        counted = load.events[begin + 20 :]  # what was under way went by the route before
        status = endpoint.status()
        endpoint.split({B: 100, A: 0})
        begin = len(load.events)
        time.sleep(0.5)
        rest = {event.version for event in load.events[begin + 20 :]}
    assert (load.errors, load.wrong) == ([], [])
    for protocol in ("grpc", "rest"):
        versions = [event.version for event in counted if event.protocol == protocol]
        expected, spread = share * len(versions), (len(versions) * share * (1 - share)) ** 0.5
        assert abs(versions.count(A) - expected) < 4.5 * spread
    assert rest == {B}
    assert [(each["version"], each["percent"]) for each in status["versions"]] == [(B, 80), (A, 20)]
    assert status["current"]["version"] == B

    with pytest.raises(SplitRefused, match="version nowhere is not running"):
        endpoint.split({B: 50, "nowhere": 50})
    endpoint.split({B: 80, A: 20})
    assert endpoint.rollback() == B  # the first way back from a split is its end
    assert endpoint.state().weights == {}
    assert (endpoint.state().current, endpoint.state().previous) == (B, A)


@pytest.mark.parametrize("name", ["triton", "transformer"])
def test_a_killed_part_comes_back_alone(
    served: Served, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, ports = served.pids(), served.endpoint.state().replicas[B].backend
    said = len(served.said())
    with served.load() as load:
        time.sleep(0.5)
        begin = time.monotonic()
        os.kill(before[name], signal.SIGKILL)
        wait_for(lambda: "ready again after" in served.said()[said:])
        told = time.monotonic() - begin
        time.sleep(0.5)
    recovery = {protocol: load.recovery_s(begin, protocol) for protocol in ("grpc", "rest")}
    longest = max(event.ended - event.began for event in load.events)
    with capsys.disabled():
        print(
            f"\nkill -9 of {name}: answers after {recovery['grpc']:.2f} s (gRPC), "
            f"{recovery['rest']:.2f} s (REST); {len(load.events) - len(load.errors)} answers, "
            f"the slowest {longest:.2f} s; {len(load.errors)} errors: {load.kinds()}"
        )
    assert load.wrong == []
    assert load.unexplained() == []
    assert load.versions.keys() == {B}
    assert max(recovery.values()) < 15
    assert told < 15

    after = served.pids()
    assert {part for part in after if after[part] != before[part]} == {name}
    assert served.endpoint.state().replicas[B].backend == ports
    with Load(served.url, served.golden) as load:
        time.sleep(0.3)
    assert (load.errors, load.wrong) == ([], [])


def test_a_stuck_transformer_is_found(served: Served) -> None:
    before, said = served.pids(), len(served.said())
    os.kill(before["transformer"], signal.SIGSTOP)
    wait_for(lambda: "ready again after" in served.said()[said:])
    after = served.pids()
    assert {part for part in after if after[part] != before[part]} == {"transformer"}
    assert ask_rest(served.url, {"history": []})[1] == B


def test_a_killed_gateway_opens_the_same_door(served: Served) -> None:
    before, said = served.pids(), len(served.said())
    os.kill(before["envoy"], signal.SIGKILL)
    wait_for(lambda: "Envoy is ready again after" in served.said()[said:])
    after = served.pids()
    assert {part for part in after if after[part] != before[part]} == {"envoy"}
    assert ask_rest(served.url, {"history": []})[1] == B


def test_what_cannot_be_started_is_tried_again_until_it_can(served: Served) -> None:
    before, said = served.pids(), len(served.said())
    graph = served.endpoint.home.versions / B / "ranker/1/model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole + b"x")
    try:
        os.kill(before["triton"], signal.SIGKILL)
        wait_for(lambda: "trying again in" in served.said()[said:])
        assert "changed: ranker/1/model.onnx" in served.said()[said:]
        assert served.pids()["transformer"] == before["transformer"]
    finally:
        graph.write_bytes(whole)
    wait_for(lambda: "ready again after" in served.said()[said:])
    assert ask_rest(served.url, {"history": []})[1] == B


def test_a_part_that_dies_in_a_rollout_starts_with_the_settings_it_leaves(served: Served) -> None:
    before, said = served.pids(), len(served.said())
    endpoint, settings = served.endpoint, TransformerConfig(max_ids=9_999)
    with endpoint.locked():
        os.kill(before["transformer"], signal.SIGKILL)
        time.sleep(0.5)  # by now it is noticed, and waits for the lock with the settings of before
        config = endpoint.config.model_copy(update={"transformer": settings})
        save_settings(endpoint.home.root.parent, config)
    wait_for(lambda: "ready again after" in served.said()[said:])
    assert endpoint.state().replicas[B].transformer.settings == settings
    after = served.pids()
    assert {part for part in after if after[part] != before[part]} == {"transformer"}


def test_a_canary_that_dies_keeps_the_settings_it_was_tried_with(served: Served) -> None:
    endpoint, said = served.endpoint, len(served.said())
    before = endpoint.state().replicas[A]
    endpoint.split({B: 90, A: 10})
    try:
        with served.load() as load:
            os.kill(before.transformer.process.pid, signal.SIGKILL)
            wait_for(lambda: "ready again after" in served.said()[said:])
    finally:
        endpoint.split({B: 100})
    after = endpoint.state().replicas[A]
    assert after.transformer.settings == before.transformer.settings
    assert after.transformer.settings != endpoint.state().replicas[B].transformer.settings
    assert (after.backend, after.triton) == (before.backend, before.triton)
    assert (load.errors, load.wrong) == ([], [])


def test_the_access_log_tells_what_happened_and_nothing_of_users(served: Served) -> None:
    lines = []
    log = served.endpoint.home.logs / "access.log"

    def logged() -> bool:
        lines[:] = [json.loads(line) for line in log.read_text().splitlines()]
        return any(line["request_id"] == "asked-last" for line in lines)

    with RecommendClient(served.url) as client:
        asked = client.recommend(user_id="somebody", exclude=["item-7"])
    ask_rest(
        served.url, {"user_id": ["somebody"], "history": ["item-7"]}, x_request_id="asked-last"
    )
    assert asked.feature_status == "fallback_unavailable"  # this home has no feature store
    wait_for(logged)
    codes = {(line["protocol"], line["status"], line["grpc_status"]) for line in lines}
    assert {("HTTP/2", 200, "OK"), ("HTTP/1.1", 200, None)} <= codes
    assert {line["version"] for line in lines if line["status"] == 200} >= {A, B}
    assert all(line["upstream"].startswith("127.0.0.1:") for line in lines if line["version"])
    assert "somebody" not in log.read_text()
    assert "item-" not in log.read_text()
