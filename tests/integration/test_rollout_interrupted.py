"""Rollouts that something comes between: a kill, an operator, parts that are mended, other ports.

As in test_rollout_faults.py, with clients that ask all the time, but nothing here is about how long
a request takes.
"""

import socket
import threading
import time

import pytest
from rollout_scene import (
    GOOD,
    SHUFFLED,
    STABLE,
    Scene,
    judged,
    refusing,
    wait_for,
)
from rollout_verdicts import nothing_failed

from recommender.errors import KuberecError
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.gateway import GatewayFailed
from serving.ports import LOCAL, free_ports
from serving.rollout.embedded.target import EmbeddedTarget
from serving.rollout.machine import abort, promote
from serving.rollout.record import Rollout
from serving.rollout.target import RolloutUnderWay
from serving.settings import load_settings

pytestmark = pytest.mark.timeout(120)


def test_stable_that_is_mended_just_now_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Triton dies right before each shift, and somebody starts it again."""
    shift, said = EmbeddedTarget.shift, list[str]()

    def unlucky(target: EmbeddedTarget, found: Rollout, percent: int) -> None:
        scene.kill(STABLE, "triton")
        shift(target, found, percent)

    monkeypatch.setattr(EmbeddedTarget, "shift", unlucky)
    with scene.kept(said.append):
        found = scene.roll(GOOD, judged(50, 100, own_requests=5_000))
    assert found.status == "promoted", found.reason
    assert said.count(f"Triton of model version {STABLE} ended; starting it again") >= 2
    assert scene.endpoint.state().current == GOOD


def test_stable_that_nobody_mends_holds_the_rollout_before_a_shift(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = EmbeddedTarget.shift

    def unlucky(target: EmbeddedTarget, found: Rollout, percent: int) -> None:
        scene.kill(STABLE, "triton")
        shift(target, found, percent)

    monkeypatch.setattr(EmbeddedTarget, "shift", unlucky)
    found = scene.roll(GOOD, judged(50, 100, stable_timeout_s=1))
    assert found.status == "held"
    assert f"because {STABLE} is not ready: it" in found.reason
    assert "(1 s: stable_timeout_s); nobody starts it again: kuberec serve" in found.reason
    assert abort(scene.target()).status == "rolled_back"  # it had no share yet
    assert scene.endpoint.ensure_running()["serving"]
    scene.require_stable_alone()


def test_a_promotion_that_fails_leaves_stable_its_settings(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to = EmbeddedEndpoint.point_to

    def fails(endpoint: EmbeddedEndpoint, version: str) -> None:
        if version == GOOD:
            raise GatewayFailed("Envoy did not take over new routes")
        point_to(endpoint, version)

    monkeypatch.setattr(EmbeddedEndpoint, "point_to", fails)
    saved, before = load_settings(scene.home), scene.endpoint.state().replicas[STABLE]
    with scene.load() as load:
        found = scene.roll(
            GOOD, judged(50, 100), transformer=refusing(30).model_copy(update={"max_ids": 999})
        )
    assert found.status == "rolled_back"
    assert found.reason == "Envoy did not take over new routes"
    assert load_settings(scene.home) == saved
    assert scene.endpoint.state().replicas[STABLE] == before
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_a_door_that_cannot_move_stays_where_it_is(scene: Scene) -> None:
    """Another port is asked for, and somebody takes it before the promotion."""
    (port,) = free_ports(1)
    with scene.load() as load:
        with scene.rolling(GOOD, judged(50, 100), port=port) as ended:
            wait_for(lambda: load.versions()[GOOD] > 10)
            other = socket.create_server((LOCAL, port))
        other.close()
    (found,) = ended
    assert found.status == "rolled_back"
    assert f"port {port} is taken" in found.reason
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_killed_in_every_phase_it_is_gone_on_with(scene: Scene) -> None:
    config = judged(50, 100, bake_s=1)
    with scene.load() as load:
        first = scene.kill_when(GOOD, config, lambda it: it.phase == "preparing")
        for percent in (50, 100):
            scene.kill_when(
                GOOD,
                config,
                lambda it, percent=percent: (
                    it.phase == "step" and it.percent == percent and bool(it.steps[-1].looks)
                ),
            )
        scene.kill_when(GOOD, config, lambda it: it.phase == "promoting")
        assert scene.start(GOOD, config).wait(60) == 0
    found = scene.record()
    assert found is not None
    assert (found.id, found.status) == (first.id, "promoted")
    assert nothing_failed(load), (load.failed(False), load.wrong)
    state = scene.endpoint.state()
    assert (state.current, state.previous, state.weights) == (GOOD, STABLE, {})
    assert [scene.servers(each) for each in (STABLE, GOOD)] == [2, 2]


def test_killed_while_it_rolls_back_it_does_so_when_run_again(scene: Scene) -> None:
    config = judged(25, 100, bake_s=2)
    with scene.load() as load:
        killed = scene.kill_when(SHUFFLED, config, lambda it: it.phase == "rolling_back")
        found = scene.roll(SHUFFLED, config)
    assert (found.id, found.status) == (killed.id, "rolled_back")
    assert "overlap" in found.reason
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_another_version_takes_the_place_of_a_killed_rollout(scene: Scene) -> None:
    with scene.load() as load:
        killed = scene.kill_when(SHUFFLED, judged(bake_s=9), lambda it: bool(it.steps))
        with scene.rolling(GOOD, judged(50, 100, bake_s=9)) as ended:
            wait_for(lambda: load.versions()[GOOD] > 10)
            assert scene.servers(SHUFFLED) == 0
            scene.target().request("abort")
        (found,) = ended
    earlier = next(each for each in scene.target().history() if each.id == killed.id)
    assert (earlier.status, found.status) == ("rolled_back", "rolled_back")
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_an_operator_aborts_or_promotes(scene: Scene) -> None:
    config = judged(50, 100, bake_s=30)
    with scene.load() as load:
        with scene.rolling(GOOD, config) as ended:
            wait_for(lambda: load.versions()[GOOD] > 10)
            with pytest.raises(RolloutUnderWay, match=r"pid \d+, since .* kuberec rollout status"):
                scene.roll(SHUFFLED, config)
            with pytest.raises(RolloutUnderWay):
                promote(scene.target())
            scene.target().request("promote")
        (found,) = ended
        assert (found.status, scene.endpoint.state().current) == ("promoted", GOOD)
        assert "an operator" in found.reason
        scene.reset()
    assert nothing_failed(load), (load.failed(False), load.wrong)


def test_what_an_operator_changes_is_noticed_and_left(scene: Scene) -> None:
    config = judged(50, 100, bake_s=30)
    with scene.load() as load:
        with scene.rolling(GOOD, config) as ended:
            wait_for(lambda: load.versions()[GOOD] > 10)
            scene.endpoint.split({STABLE: 90, GOOD: 10})
        (found,) = ended
        assert found.status == "taken_over"
        assert "10 %" in found.reason
        assert scene.endpoint.state().weights == {STABLE: 90, GOOD: 10}
        with pytest.raises(KuberecError, match=f"{GOOD} has 10 % of the requests beside {STABLE}"):
            scene.roll(SHUFFLED, config)
        assert scene.endpoint.rollback() == STABLE  # as `kuberec rollback` does
        scene.require_stable_alone()

        with scene.rolling(GOOD, config) as ended:
            since = time.time()
            wait_for(lambda: load.versions(since)[GOOD] > 10)
            scene.endpoint.rollback()
        (found,) = ended
        assert found.status == "taken_over"
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_what_serves_is_mended_while_a_canary_is_prepared(scene: Scene) -> None:
    """The endpoint's lock is free while the canary starts."""
    with scene.rolling(GOOD, judged(50, 100, bake_s=30)) as ended:
        wait_for(lambda: scene.endpoint.state().on_trial == GOOD)
        begin = time.monotonic()
        with scene.endpoint.locked(timeout_s=1.0):
            assert scene.endpoint.state().replicas.keys() == {STABLE}
        assert time.monotonic() - begin < 1
        done = threading.Event()
        threading.Thread(target=lambda: (scene.endpoint.open_door(), done.set())).start()
        assert done.wait(5)  # and spares the canary, which it does not know yet
        wait_for(lambda: scene.endpoint.state().weights)
        scene.target().request("abort")
    (found,) = ended
    assert found.status == "rolled_back"
    scene.require_stable_alone()
