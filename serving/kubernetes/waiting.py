"""Waiting until a version's pods serve: what happens is told, and what goes wrong explained."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from recommender.errors import KuberecError
from serving.inference_service import FIELD_MANAGER, read_serving, version_of
from serving.kubernetes.api import EVENT, Cluster, Object
from serving.kubernetes.diagnosis import Problem, find_problems
from serving.kubernetes.errors import ClusterError, Forbidden, NotFound
from serving.kubernetes.seen import (
    Seen,
    Wanted,
    condition,
    is_ready,
    look,
    new_pods,
    storage_uri_of,
)

Say = Callable[[str], None]
_POLL_S = 1.0
_NOTICE_S = 3.0
_SILENCE_S = 30.0  # after which an unchanged state is told again
# The API may be away for so long (a control plane that is upgraded) before waiting is given up.
_OUTAGE_S = 60.0


class NotReady(KuberecError):
    """A version whose pods do not come to serve."""


class Superseded(KuberecError):
    """Somebody put another version in the meantime."""


def wait_until_ready(
    cluster: Cluster,
    wanted: Wanted,
    timeout_s: float,
    say: Say,
    poll_s: float = _POLL_S,
    attend: Callable[[], None] = lambda: None,
) -> None:
    """Until all pods of the slot are of the version and ready, a canary's or stable's.

    Of the stable slot the InferenceService has to be Ready too.

    Args:
        attend: called with each look; what it raises ends the wait.

    Raises:
        NotReady: not within `timeout_s`, or clearly never; says why, with last log lines.
        Superseded: the InferenceService names another version now.
        ClusterError: the API refuses, or was away for a minute.
    """
    began, told, told_at, reached = time.monotonic(), "", 0.0, time.monotonic()
    since = datetime.now(UTC) - timedelta(seconds=5)
    first_seen: dict[str, float] = {}
    while True:
        try:
            attend()
            seen = look(cluster, wanted)
            reached = time.monotonic()
        except (Forbidden, NotFound):
            raise
        except ClusterError:
            if time.monotonic() - reached > _OUTAGE_S:
                raise
            time.sleep(poll_s)
            continue
        named = read_serving(seen.service).uri_of(wanted.slot)
        if named != wanted.storage_uri:
            raise Superseded(
                f"InferenceService '{wanted.service}' was given another version meanwhile "
                f"({named or 'none'} in slot {wanted.slot}): this rollout leaves it at that"
            )
        if _is_done(seen, wanted):
            return
        problems = _problems(cluster, wanted, seen, since)
        now = time.monotonic()
        first_seen = {each.key: first_seen.get(each.key, now) for each in problems}
        # What the next look no longer finds was on its way: told only once it stays.
        lasting = [each for each in problems if now - first_seen[each.key] >= _NOTICE_S]
        state = _state(seen, wanted, lasting)
        if state != told or now - told_at > _SILENCE_S:
            say(state)
            told, told_at = state, now
        hopeless = [each for each in problems if now - first_seen[each.key] >= each.patience_s]
        if hopeless:
            raise NotReady(_explain(cluster, wanted, hopeless, "will not be ready"))
        if now - began > timeout_s:
            late = f"was not ready within {timeout_s:g} s"
            raise NotReady(_explain(cluster, wanted, problems, late, seen))
        time.sleep(poll_s)


def _is_done(seen: Seen, wanted: Wanted) -> bool:
    """Ready, and every pod new. The service's own observedGeneration is the Deployment's (KServe
    0.21), so that its Ready may be of the version before: the Deployment has to say it as well.
    And it says nothing of a canary.
    """
    deployment = seen.deployment
    if deployment is None:
        return False
    stable = read_serving(seen.service).slot == wanted.slot
    if stable and condition(seen.service, "Ready").get("status") != "True":
        return False
    status, replicas = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return (
        storage_uri_of(deployment["spec"]["template"]) == wanted.storage_uri
        and status.get("observedGeneration") == deployment["metadata"].get("generation")
        and replicas >= 1
        and status.get("updatedReplicas") == replicas
        and status.get("replicas") == replicas
        and status.get("availableReplicas") == replicas
    )


def _problems(cluster: Cluster, wanted: Wanted, seen: Seen, since: datetime) -> list[Problem]:
    events = []
    for event in cluster.find_all(EVENT, wanted.namespace):
        at = event.get("lastTimestamp") or event.get("eventTime") or ""
        ours = event.get("reportingComponent") == FIELD_MANAGER
        if at and not ours and datetime.fromisoformat(at) >= since.replace(microsecond=0):
            events.append(event)
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime")))
    return find_problems(
        seen.service, seen.deployment, new_pods(seen, wanted), events, wanted.storage_uri
    )


def _state(seen: Seen, wanted: Wanted, problems: list[Problem]) -> str:
    """One line of progress."""
    if problems:
        return problems[0].text
    if seen.deployment is None:
        return f"waiting for KServe to make Deployment '{wanted.deployment}'"
    new = new_pods(seen, wanted)
    ready = sum(map(is_ready, new))
    pods = seen.deployment["spec"].get("replicas", 1)
    line = f"{wanted.deployment}: {ready} of {pods} pods of the new version ready"
    old = len(seen.pods) - len(new)
    if old:
        line += f", {old} of the version before"
    unready = [pod for pod in new if not is_ready(pod)]
    if unready:
        line += f"; {unready[0]['metadata']['name']}: {_phase(unready[0])}"
    elif ready == pods and not old and read_serving(seen.service).slot == wanted.slot:
        state = condition(seen.service, "Ready")
        if state.get("status") != "True":
            line += f"; InferenceService not Ready yet: {state.get('message') or 'no word'}"
    return line


def _phase(pod: Object) -> str:
    status = pod.get("status") or {}
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{container['name']}: {waiting['reason']}"
        if "running" in (container.get("state") or {}) and not container.get("ready"):
            return f"{container['name']} starts"
    return str(status.get("phase", "Pending"))


def _explain(
    cluster: Cluster,
    wanted: Wanted,
    problems: list[Problem],
    verdict: str,
    seen: Seen | None = None,
) -> str:
    """The error's text: causes with their last log lines, each cause once."""
    version = version_of(wanted.storage_uri)
    head = f"version {version} on InferenceService '{wanted.service}' {verdict}"
    lines = []
    for problem in problems[:4]:
        lines.append(problem.text)
        if problem.log:
            pod, container, previous = problem.log
            logged = cluster.logs(wanted.namespace, pod, container, previous=previous)
            if not logged and previous:  # only the last run's are kept for a while
                logged = cluster.logs(wanted.namespace, pod, container)
            lines += [f"  | {line[:300]}" for line in logged]
    if len(problems) > 4:
        lines.append(f"and {len(problems) - 4} more like these")
    if not lines and seen is not None:
        lines = [_state(seen, wanted, [])]
        if seen.deployment is not None and all(map(is_ready, seen.pods)):
            conditions = (seen.service.get("status") or {}).get("conditions") or []
            lines += [
                f"condition {each['type']} is {each['status']}: "
                f"{each.get('message') or each.get('reason') or 'no reason given'}"
                for each in conditions
                if each["status"] != "True"
            ]
        lines.append(
            f"look with: kubectl describe pods -n {wanted.namespace} "
            f"-l app=isvc.{wanted.deployment}"
        )
    return "\n".join([f"{head}:", *(f"  {line}" for line in lines)])
