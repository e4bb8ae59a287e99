"""The rollout's record and shares on a cluster, as far as they need none."""

import json
import time
from typing import Any

import pytest

from recommender.errors import KuberecError
from serving.kubernetes.api import Cluster
from serving.kubernetes.errors import Away, NotFound
from serving.kubernetes.replicas import needed
from serving.kubernetes.restarts import restarted, restarts
from serving.kubernetes.shares import shares
from serving.rollout.kserve.memory import KServeMemory
from serving.rollout.kserve.records import LIMIT_BYTES, fit
from serving.rollout.record import Look, Note, Rollout, StepRecord, now
from serving.settings import KubernetesConfig


def look(number: int) -> Look:
    numbers = {"requests": number, "p50_ms": 1.0}
    reason = "a sentence that says what was found " * 4
    return Look(
        at=now(),
        canary_percent=5,
        outcome="inconclusive",
        reason=reason,
        stable=numbers,
        canary=numbers,
    )


def rollout(name: str, looks: int = 3, steps: int = 2) -> Rollout:
    return Rollout(
        id=name,
        target="kserve",
        stable="v1",
        canary="v2",
        began=now(),
        config={},
        steps=[
            StepRecord(percent=5, began=now(), looks=[look(number) for number in range(looks)])
            for _ in range(steps)
        ],
    )


def test_a_record_that_fits_is_kept_as_it_is() -> None:
    latest, earlier = rollout("2"), rollout("1")
    current, history = fit(latest, [earlier])
    assert Rollout.model_validate_json(current) == latest
    assert [Rollout.model_validate(each) for each in json.loads(history)] == [earlier]


def test_a_record_that_is_too_large_loses_history_and_looks_but_no_step() -> None:
    latest = rollout("2", looks=3000)
    current, history = fit(latest, [rollout("1", looks=2000)])
    assert len(current.encode()) + len(history.encode()) <= LIMIT_BYTES
    assert json.loads(history) == []
    kept = Rollout.model_validate_json(current).steps
    assert len(kept) == 2
    for step in kept:
        numbers = [each.stable["requests"] for each in step.looks]
        assert numbers == sorted(numbers)
        assert (numbers[0], numbers[-1]) == (0, 2999)
        assert len(numbers) > 500
    assert len(latest.steps[0].looks) == 3000  # the process itself still has all


def test_a_record_that_cannot_fit_is_refused() -> None:
    latest = rollout("1", looks=1)
    latest.notes = [Note(at=now(), reason="R", message="x" * 1000) for _ in range(1000)]
    with pytest.raises(KuberecError, match="a ConfigMap takes 900,000"):
        fit(latest, [])


def test_the_api_server_may_be_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    memory = KServeMemory(Routes(), KubernetesConfig(), print)

    def answers_after(seconds: float) -> str:
        if clock[0] < seconds:
            raise Away("no route to host")
        return "here"

    assert memory.patiently(lambda: answers_after(50)) == "here"
    with pytest.raises(Away):
        memory.patiently(lambda: answers_after(1000))
    assert 50 + 60 <= clock[0] <= 50 + 65


class Routes(Cluster):
    """A cluster that has HTTPRoutes alone."""

    def __init__(self, taken: int = 7, **routes: list[dict[str, int | None]]) -> None:
        accepted = [
            {"type": kind, "status": "True", "observedGeneration": taken}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        self.routes = {
            name.replace("_", "-"): {
                "metadata": {"name": name.replace("_", "-"), "generation": 7},
                "status": {"parents": [{"parentRef": {"name": "door"}, "conditions": accepted}]},
                "spec": {
                    "parentRefs": [{"name": "door"}],
                    "rules": [
                        {
                            "backendRefs": [
                                {"name": f"recommend-{slot}-predictor"}
                                | ({} if weight is None else {"weight": weight})
                                for slot, weight in rule.items()
                            ]
                        }
                        for rule in rules
                    ],
                },
            }
            for name, rules in routes.items()
        }

    def get(self, resource: Any, namespace: str, name: str) -> Any:
        if name not in self.routes:
            raise NotFound(name)
        return self.routes[name]


def found(routes: Routes, slot: str | None = "green"):
    return shares(routes, "shop", "recommend", "blue", slot)


def test_shares_are_those_of_every_rule_of_both_routes() -> None:
    old: dict[str, int | None] = {"blue": 75, "green": 25}
    new: dict[str, int | None] = {"blue": 50, "green": 50}
    on_its_way = found(Routes(recommend=[new, old], recommend_predictor=[new, new]))
    assert not on_its_way.all_at(50)
    assert on_its_way.percent == 50
    assert found(Routes(recommend=[new, new], recommend_predictor=[new, new])).all_at(50)
    assert not found(Routes(recommend=[new, new], recommend_predictor=[old, old])).all_at(50)


def test_a_slot_that_no_rule_names_has_nothing() -> None:
    alone = Routes(recommend=[{"blue": None}])
    assert found(alone).all_at(0)
    assert found(alone, None).all_at(0)
    assert not found(alone).alone
    assert found(alone, "blue").all_at(100)
    assert found(alone, "blue").alone


def test_a_route_that_the_gateway_has_not_taken_shares_nothing() -> None:
    """A gateway whose controller is gone serves as before, whatever the route says."""
    routes = Routes(taken=6, recommend=[{"blue": 0, "green": 100}])
    assert found(routes).percent == 100
    assert not found(routes).all_at(100)
    assert "Gateway 'door' has not taken generation 7" in found(routes).behind
    assert "Accepted=True for generation 6" in found(routes).behind
    assert not found(Routes(taken=6, recommend=[{"green": None}])).alone
    refused = Routes(recommend=[{"green": None}])
    refused.routes["recommend"]["status"]["parents"][0]["conditions"][1]["status"] = "False"
    assert "ResolvedRefs=False" in found(refused).behind
    refused.routes["recommend"]["status"] = {}
    assert "it says nothing" in found(refused).behind


def test_a_second_route_that_is_not_kept_up_does_not_count() -> None:
    routes = Routes(recommend=[{"blue": 50, "green": 50}], recommend_predictor=[{"green": None}])
    assert found(routes).all_at(50)


def test_a_route_without_rules_shares_nothing_yet() -> None:
    empty = found(Routes(recommend=[]))
    assert not empty.all_at(0)
    assert not empty.alone
    with pytest.raises(NotFound):
        found(Routes())


def test_pods_that_a_share_needs() -> None:
    """Of stable's four, which its autoscaler takes away as it has less to do."""
    assert needed(5, alone=4, pods=4, share_now=100) == 1
    assert needed(50, alone=4, pods=3, share_now=75) == 2
    assert needed(100, alone=4, pods=2, share_now=50) == 4
    assert needed(100, alone=1, pods=1, share_now=50) == 1  # on a cluster with room for no more
    grown = needed(100, alone=2, pods=3, share_now=50)  # load has, since
    assert grown == 6
    assert needed(95, alone=4, pods=3, share_now=0) == 4


def pod(name: str, restart_count: int, **state: object) -> Any:
    container = {"name": "transformer-container", "restartCount": restart_count, **state}
    return {"metadata": {"name": name}, "status": {"containerStatuses": [container]}}


def test_a_container_that_died_is_told_with_its_reason() -> None:
    killed = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    before = restarts([pod("a", 2, lastState=killed), {"metadata": {"name": "new"}, "status": {}}])
    assert restarted([pod("a", 2, lastState=killed), pod("b", 0)], before) == ""
    how = "has died meanwhile (OOMKilled, exit code 137)"
    told = f"container 'transformer-container' of pod '{{}}' {how}"
    assert restarted([pod("a", 3, lastState=killed)], before) == told.format("a")
    assert restarted([pod("b", 1, lastState=killed)], before) == told.format("b")
    assert restarted([pod("a", 2, state=killed)], before) == told.format("a")
    going = pod("a", 3, lastState=killed)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert restarted([going], before) == ""
