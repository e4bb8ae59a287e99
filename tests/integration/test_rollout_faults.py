"""Canaries of all kinds, rolled out under a steady load of clients: what becomes of them.

Real Envoy, transformers and Tritons. Every case ends in the right verdict within the time that its
settings give it; no client's request fails but for the injected ones, and no answer is wrong; after
a rollback stable serves alone.
"""

import os
import signal
import time
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
from rollout_verdicts import nothing_failed, require_in_time

from serving.embedded.replica import Replica
from serving.embedded.routes import Backend
from serving.ports import free_ports
from serving.rollout.embedded.scrape import ScrapedEvidence
from serving.rollout.embedded.target import EmbeddedTarget
from serving.rollout.evidence import Evidence
from serving.rollout.machine import abort
from serving.rollout.record import Rollout

pytestmark = pytest.mark.timeout(120)


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
    # Three in a hundred are told from chance after some 500 requests, and surely after 1,500.
    config = judged(50, 100, bake_s=3, min_requests=100, look_every_s=1, max_wait_s=60)
    with SteadyLoad(scene.endpoint.url, asks, per_second=150, poison=33) as load:
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
    # Ten were too few; of more it sends no more than it needs, however slow the machine is.
    assert few["own_requests"] < found.steps[-1].looks[-1].own_requests < 5_000
