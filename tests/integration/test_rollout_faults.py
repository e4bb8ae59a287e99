"""Canaries of all kinds, rolled out under a steady load of clients: what becomes of them.

Real Envoy, transformers and Tritons. Every case ends in the right verdict within the time that its
settings give it; no client's request fails but for the injected ones, and no answer is wrong; after
a rollback stable serves alone.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from rollout_load import SteadyLoad
from rollout_scene import (
    GOOD,
    IN_TIME,
    OLD,
    OLDER,
    SHUFFLED,
    STABLE,
    Scene,
    judged,
    refusing,
    slow_ports,
    wait_for,
)

from recommender.errors import KuberecError
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.gateway import GatewayFailed
from serving.embedded.replica import Replica
from serving.embedded.routes import Backend
from serving.ports import LOCAL, free_ports
from serving.rollout.embedded.rollout import EmbeddedTarget
from serving.rollout.embedded.scrape import ScrapedEvidence
from serving.rollout.evidence import Evidence
from serving.rollout.machine import abort, promote
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig
from serving.rollout.target import RolloutUnderWay
from serving.settings import load_settings

pytestmark = pytest.mark.timeout(120)
_START_S = 30.0  # more than a canary takes to start, and be checked, on a busy machine


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene: Scene | None = None
    try:
        scene = Scene(tmp_path_factory.mktemp("rollouts"))
        yield scene
    finally:
        if scene is not None:
            scene.endpoint.stop_all()


@pytest.fixture
def scene(started: Scene) -> Iterator[Scene]:
    """With STABLE alone before and after, also where a test fails."""
    yield started
    started.reset()


def nothing_failed(load: SteadyLoad) -> bool:
    return (load.failed(False), load.failed(True), load.wrong) == ([], [], [])


def seconds(begin: str, end: str | None) -> float:
    assert end is not None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def require_in_time(found: Rollout) -> None:
    """No step took longer than its settings say."""
    config = RolloutConfig.model_validate(found.config)
    for step in found.steps:
        bake_s = next(each.bake_s for each in config.steps if each.percent == step.percent)
        assert seconds(step.began, step.ended) < bake_s + config.max_wait_s + 5
    allowed = sum(step.bake_s + config.max_wait_s for step in config.steps) + _START_S
    assert seconds(found.began, found.ended) < allowed


def test_a_good_canary_is_promoted_and_gets_its_shares(scene: Scene) -> None:
    with scene.load() as load:
        found = scene.roll(GOOD, judged(25, 100, bake_s=3))
        time.sleep(0.3)
    assert (found.status, found.canary) == ("promoted", GOOD), found.reason
    require_in_time(found)
    assert nothing_failed(load), (load.failed(False), load.wrong)
    step = found.steps[0]
    begin = datetime.fromisoformat(step.began).timestamp() + 0.5
    end = datetime.fromisoformat(str(step.ended)).timestamp()
    counted = load.versions(begin, end)
    share, total = 0.25, counted.total()
    assert total > 100
    assert abs(counted[GOOD] - share * total) < 4.5 * (total * share * (1 - share)) ** 0.5
    state = scene.endpoint.state()
    assert (state.current, state.previous, state.weights) == (GOOD, STABLE, {})
    assert scene.endpoint.rollback() == STABLE


def test_a_canary_slow_by_50_ms_is_rolled_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: dict[tuple[int, int], Backend] = {}
    opened = []

    def backend(replica: Replica) -> Backend:
        ports = (replica.transformer.http_port, replica.transformer.grpc_port)
        if replica.transformer.version_dir.name != GOOD:
            return Backend(*ports)
        if ports not in slow:
            opened.append(slow_ports(ports, 0.05))
            slow[ports] = Backend(*opened[-1].__enter__())
        return slow[ports]

    monkeypatch.setattr(Replica, "backend", property(backend))
    try:
        with scene.load() as load:
            found = scene.roll(GOOD, judged(25, 100, bake_s=2, **IN_TIME))
    finally:
        monkeypatch.undo()
        for each in opened:
            each.__exit__(None, None, None)
    assert found.status == "rolled_back"
    assert "latency" in found.reason
    require_in_time(found)
    assert nothing_failed(load), (load.failed(False), load.wrong)
    assert load.versions()[GOOD] > 20
    scene.require_stable_alone()


def test_a_canary_that_fails_three_percent_is_rolled_back(scene: Scene) -> None:
    """One that refuses users whom stable answers: over REST stable answers in its place."""
    asks = [ask for ask in scene.asks if ask.user_id != OLDER]
    config = judged(50, 100, bake_s=3, min_requests=100)
    with SteadyLoad(scene.endpoint.url, asks, poison=33) as load:
        found = scene.roll(GOOD, config, transformer=refusing(1))
    assert found.status == "rolled_back", found.reason
    assert "error rate" in found.reason or "failed answers" in found.reason
    require_in_time(found)
    assert (load.failed(poisoned=False), load.wrong) == ([], [])
    refused = load.failed(poisoned=True)
    assert refused
    assert {each.protocol for each in refused} == {"grpc"}
    assert all(OLD in each.code for each in refused)
    scene.require_stable_alone()


def test_a_canary_that_ranks_wrongly_is_rolled_back(scene: Scene) -> None:
    with scene.load() as load:
        found = scene.roll(SHUFFLED, judged(25, 100, bake_s=2))
    assert found.status == "rolled_back"
    assert "overlap" in found.reason
    assert "latency" not in found.reason
    assert "error" not in found.reason
    require_in_time(found)
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_a_canary_that_never_gets_ready_is_rolled_back(scene: Scene) -> None:
    with scene.load() as load:
        found = scene.roll(GOOD, judged(), start_timeout_s=0.2)
    assert found.status == "rolled_back"
    assert "was not ready after 0 s (serving.start_timeout_s)" in found.reason
    assert found.steps == []
    require_in_time(found)
    assert nothing_failed(load), (load.failed(False), load.wrong)
    assert load.versions().keys() == {STABLE}
    scene.require_stable_alone()


@pytest.mark.parametrize("part", ["transformer", "triton"])
def test_a_canary_that_dies_costs_clients_nothing(scene: Scene, part: str) -> None:
    with scene.load() as load:
        with scene.rolling(GOOD, judged(50, 100, bake_s=20)) as ended:
            wait_for(lambda: load.versions()[GOOD] > 20)
            killed = time.time()
            scene.kill(GOOD, part)
        (found,) = ended
    assert found.status == "rolled_back"
    ended_part = f"its {'Triton' if part == 'triton' else part} ended"
    assert ended_part in found.reason or "failed answers" in found.reason
    assert datetime.fromisoformat(str(found.ended)).timestamp() - killed < 12
    assert nothing_failed(load), (load.failed(False), load.wrong)
    scene.require_stable_alone()


def test_a_canary_that_hangs_costs_clients_a_wait(scene: Scene) -> None:
    """Its transformer is stopped: connections are taken, and nothing is answered."""
    with scene.load() as load:
        with scene.rolling(GOOD, judged(50, 100, bake_s=40)) as ended:
            wait_for(lambda: load.versions()[GOOD] > 20)
            stopped = time.time()
            os.kill(scene.part(GOOD, "transformer"), signal.SIGSTOP)
        (found,) = ended
    assert found.status == "rolled_back"
    assert "it does not answer" in found.reason or "failed answers" in found.reason
    assert datetime.fromisoformat(str(found.ended)).timestamp() - stopped < 60
    assert nothing_failed(load), (load.failed(False), load.wrong)
    # Both clients hung at it, and were answered by stable.
    waited = [each for each in load.events if stopped < each.began and each.took_s > 4]
    assert {each.protocol for each in waited} == {"grpc", "rest"}
    assert {each.version for each in waited} == {STABLE}
    scene.require_stable_alone()


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


def test_where_stable_fails_as_well_the_rollout_is_held(scene: Scene) -> None:
    """Half-way clients begin to ask what both refuse: nothing can be said for or against it."""
    asks = [ask for ask in scene.asks if ask.user_id != OLD]
    config = judged(50, 100, bake_s=3, max_wait_s=2)
    with SteadyLoad(scene.endpoint.url, asks) as load:
        with scene.rolling(GOOD, config) as ended:
            wait_for(lambda: load.versions()[GOOD] > 20)
            load.poison = 3
        (found,) = ended
    assert found.status == "held", found.reason
    assert "stable is ill itself" in found.reason
    require_in_time(found)
    assert (load.failed(poisoned=False), load.wrong) == ([], [])
    assert load.failed(poisoned=True)
    state = scene.endpoint.state()
    assert state.current == STABLE
    assert state.weights[GOOD] > 0  # as it was, until an operator decides
    assert abort(scene.target()).status == "rolled_back"
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


def test_without_metrics_nothing_is_promoted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody,) = free_ports(1)

    def evidence(target: EmbeddedTarget, found: Rollout) -> Evidence:
        return ScrapedEvidence(
            f"127.0.0.1:{nobody}", (found.stable, found.canary), target._addresses
        )

    monkeypatch.setattr(EmbeddedTarget, "evidence", evidence)
    with scene.load() as load:
        found = scene.roll(GOOD, judged(50, 100, max_wait_s=1))
        monkeypatch.undo()
        assert (found.status, found.percent) == ("held", 50), found.reason
        assert f"Envoy cannot be read at http://127.0.0.1:{nobody}/stats/prometheus" in found.reason
        require_in_time(found)
        # Once they can be read, running it again goes on.
        found = scene.roll(GOOD, judged(50, 100))
    assert found.status == "promoted", found.reason
    assert nothing_failed(load), (load.failed(False), load.wrong)


def test_too_little_traffic_is_made_up_for_up_to_a_bound(scene: Scene) -> None:
    """No client asks at all. What both are asked beside are the golden requests alone."""
    few = {"own_requests": 10, "max_wait_s": 1}
    found = scene.roll(GOOD, judged(50, 100, **few))
    assert found.status == "held"
    assert "too few requests" in found.reason
    assert found.steps[-1].looks[-1].own_requests == 10
    require_in_time(found)
    found = scene.roll(GOOD, judged(50, 100, own_requests=5_000))
    assert found.status == "promoted", found.reason
    assert 40 < found.steps[-1].looks[-1].own_requests < 5_000


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
