"""Waiting for stable before a change: what ends it, on an endpoint that is played."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import rollout_records as records

from recommender.errors import KuberecError
from serving.embedded.shares import SplitRefused
from serving.embedded.state import ServingBusy, State
from serving.rollout.embedded import waiting as embedded_wait
from serving.rollout.embedded.waiting import once_ready
from serving.rollout.target import StableNotReady


class PlayedEndpoint:
    """Its state and its lock, as a test says; `troubles` of stable, look by look."""

    def __init__(self, *troubles: str, running: bool = True, busy: int = 0) -> None:
        self.troubles, self.running, self.busy = list(troubles), running, busy
        self.weights = {"old": 75, "new": 25}
        self.looks = 0

    def state(self) -> State:
        return State(current="old", weights=self.weights)

    def trouble(self, state: State, version: str) -> str:
        assert version == "old"
        self.looks += 1
        return self.troubles.pop(0) if len(self.troubles) > 1 else self.troubles[0]

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator[None]:
        self.busy -= 1
        if self.busy >= 0:
            raise ServingBusy("another command is changing what serves")
        yield

    def runs(self) -> bool:
        return self.running


def wait(
    endpoint: PlayedEndpoint,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[], None] = lambda: None,
    asked: Callable[[], str | None] = lambda: None,
    stable_timeout_s: float = 0.2,
) -> None:
    monkeypatch.setattr(embedded_wait, "trouble_of", endpoint.trouble)
    monkeypatch.setattr(embedded_wait, "_POLL_S", 0.01)
    rollout = records.under_way()
    rollout.config |= {"stable_timeout_s": stable_timeout_s, "max_unready_s": 0.05}
    once_ready(endpoint, rollout, change, asked)


def test_it_waits_for_stable_and_for_the_lock(monkeypatch):
    endpoint, done = PlayedEndpoint("its Triton ended", "it does not answer", "", busy=3), []
    wait(endpoint, monkeypatch, lambda: done.append(endpoint.looks), stable_timeout_s=20)
    assert done == [6]


@pytest.mark.parametrize("endpoint", [PlayedEndpoint("it ended"), PlayedEndpoint("", busy=10**6)])
def test_it_waits_so_long_and_says_why(endpoint, monkeypatch):
    with pytest.raises(StableNotReady, match=r"stable_timeout_s\); nobody .*: kuberec serve"):
        wait(endpoint, monkeypatch)


def test_of_an_endpoint_that_is_stopped_nothing_is_waited_for(monkeypatch):
    with pytest.raises(StableNotReady, match=r"`kuberec serve` starts it .* abort` gives new up"):
        wait(PlayedEndpoint("it ended", running=False), monkeypatch, stable_timeout_s=600)


def test_an_operator_ends_the_waiting(monkeypatch):
    with pytest.raises(StableNotReady, match="asked for another end: abort"):
        wait(PlayedEndpoint("it ended"), monkeypatch, asked=lambda: "abort", stable_timeout_s=600)
    endpoint = PlayedEndpoint("it ended")

    def asked() -> None:
        endpoint.weights = {}

    with pytest.raises(StableNotReady, match="somebody else changed what serves"):
        wait(endpoint, monkeypatch, asked=asked, stable_timeout_s=600)


def test_a_canary_may_be_unready_for_a_moment_and_no_longer(monkeypatch):
    refused = ["not running", "not running"]

    def change() -> None:
        if refused:
            raise SplitRefused(refused.pop())

    wait(PlayedEndpoint(""), monkeypatch, change, stable_timeout_s=600)
    assert refused == []
    refused = ["not running"] * 1000
    with pytest.raises(SplitRefused):
        wait(PlayedEndpoint(""), monkeypatch, change, stable_timeout_s=600)
    assert refused


def test_what_fails_otherwise_is_not_tried_again(monkeypatch):
    endpoint = PlayedEndpoint("")

    def change() -> None:
        raise KuberecError("port 1 is taken")

    with pytest.raises(KuberecError, match="port 1"):
        wait(endpoint, monkeypatch, change)
    assert endpoint.looks == 1
