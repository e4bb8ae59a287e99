"""Who rolls out, and who may next: a Lease of a real API server."""

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from room import Room, eventually, new_room

from serving.kubernetes.api import LEASE
from serving.rollout.kserve import lease
from serving.rollout.kserve.lease import hold, holder
from serving.rollout.target import RolloutUnderWay

NAME = "recommend-rollout"


@pytest.fixture(scope="module")
def shared() -> Iterator[Room]:
    with new_room() as made:
        yield made


@pytest.fixture
def room(shared: Room, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Without a Lease, and one that is made runs out in 2 s."""
    if shared.cluster.find(LEASE, shared.name, NAME) is not None:
        shared.call("DELETE", shared.path(LEASE, NAME))
    monkeypatch.setattr(lease, "DURATION_S", 2)
    monkeypatch.setattr(lease, "MARGIN_S", 0.5)
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 0.3)
    monkeypatch.setattr(lease, "_POLL_S", 0.2)
    return shared


def leave(room: Room, who: str, ago_s: float = 0.0) -> None:
    """A Lease as a process leaves one that was killed."""
    renewed = datetime.now(UTC) - timedelta(seconds=ago_s)
    room.create(
        LEASE,
        {
            "apiVersion": LEASE.group_version,
            "kind": LEASE.kind,
            "metadata": {"name": NAME},
            "spec": {
                "holderIdentity": who,
                "leaseDurationSeconds": 2,
                "acquireTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        },
    )


def test_it_is_renewed_and_given_back(room: Room) -> None:
    with hold(room.cluster, room.name, NAME) as held:
        first = room.get(LEASE, NAME)["spec"]
        assert first["holderIdentity"].split("/")[1] == str(os.getpid())
        eventually(lambda: room.get(LEASE, NAME)["spec"]["renewTime"] > first["renewTime"])
        assert (holder(room.cluster, room.name, NAME) or "").startswith(first["holderIdentity"])
        held.check()
    assert holder(room.cluster, room.name, NAME) is None
    with hold(room.cluster, room.name, NAME):
        assert room.get(LEASE, NAME)["spec"]["leaseTransitions"] == 1


def test_it_is_believed_in_for_less_time_than_others_wait(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", 3600.0)
    with hold(room.cluster, room.name, NAME) as held:
        first = room.get(LEASE, NAME)["spec"]["renewTime"]
        clock = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: clock + 1.4)
        held.check()
        assert room.get(LEASE, NAME)["spec"]["renewTime"] == first
        # Asked for at 1.6 s, and the answer takes a second.
        replace = room.cluster.replace

        def late(*given: Any) -> Any:
            monkeypatch.setattr(time, "monotonic", lambda: clock + 2.6)
            return replace(*given)

        monkeypatch.setattr(time, "monotonic", lambda: clock + 1.6)
        with monkeypatch.context() as slow:
            slow.setattr(room.cluster, "replace", late)
            held.check()
        second = room.get(LEASE, NAME)["spec"]["renewTime"]
        assert second > first
        monkeypatch.setattr(time, "monotonic", lambda: clock + 3.2)  # 1.6 s after it was asked for
        held.check()
        assert room.get(LEASE, NAME)["spec"]["renewTime"] > second


def test_a_holder_that_renews_is_left_alone(room: Room) -> None:
    with hold(room.cluster, room.name, NAME) as held:
        told = r"another process rolls out here: .*/\d+/\d+"
        with pytest.raises(RolloutUnderWay, match=told), hold(room.cluster, room.name, NAME):
            pass
        held.check()


def test_one_of_another_host_that_does_not_renew_is_taken_over(room: Room) -> None:
    leave(room, "another-host/1/1")
    assert (holder(room.cluster, room.name, NAME) or "").startswith("another-host/1/1, since")
    began = time.monotonic()
    with hold(room.cluster, room.name, NAME):
        assert time.monotonic() - began >= 2
    assert holder(room.cluster, room.name, NAME) is None


def test_one_that_was_forgotten_long_ago_is_taken_over_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DURATION_S", 3600)
    leave(room, "another-host/1/1", ago_s=7200)
    with hold(room.cluster, room.name, NAME):
        pass


def test_one_of_a_dead_process_here_is_taken_over_at_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DURATION_S", 3600)
    dead = subprocess.Popen(["true"])
    dead.wait()
    leave(room, f"{lease.identity().partition('/')[0]}/{dead.pid}/1")
    assert holder(room.cluster, room.name, NAME) is None
    with hold(room.cluster, room.name, NAME):
        pass


def test_who_lost_it_is_told_to_leave(room: Room) -> None:
    with hold(room.cluster, room.name, NAME) as held:
        taken = room.get(LEASE, NAME)
        taken["spec"]["holderIdentity"] = "another-host/1/1"
        eventually(
            lambda: room.cluster.replace(LEASE, room.get(LEASE, NAME) | {"spec": taken["spec"]})
        )

        def lost() -> bool:
            try:
                held.check()
            except RolloutUnderWay as error:
                return "another-host/1/1 has it now" in str(error)
            return False

        eventually(lost)
    assert room.get(LEASE, NAME)["spec"]["holderIdentity"] == "another-host/1/1"
