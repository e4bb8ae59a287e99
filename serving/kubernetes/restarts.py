"""Containers that died and were started again: what a pod counted before that is lost.

Its counters begin anew, and what it did between the last scrape and its death was never read, so
that the numbers of a canary that dies again and again may look well.
"""

from collections.abc import Iterable, Iterator, Mapping

from serving.kubernetes.api import Object

Restarts = Mapping[tuple[str, str], int]  # {(pod, container): how often}


def restarts(pods: Iterable[Object]) -> dict[tuple[str, str], int]:
    """How often each container was started again so far."""
    return {
        (str(pod["metadata"]["name"]), str(each["name"])): int(each.get("restartCount") or 0)
        for pod, each in _containers(pods)
    }


def restarted(pods: Iterable[Object], before: Restarts) -> str:
    """Which containers have died since, and how; "" if none has.

    Args:
        before: of a pod that is not in it, none had.
    """
    said = []
    for pod, each in _containers(pods):
        name = str(pod["metadata"]["name"])
        more = int(each.get("restartCount") or 0) - before.get((name, str(each["name"])), 0)
        ended = (each.get("state") or {}).get("terminated")
        if more <= 0 and not ended:
            continue
        ended = ended or (each.get("lastState") or {}).get("terminated") or {}
        how = f"{ended.get('reason') or 'no reason given'}, exit code {ended.get('exitCode', '?')}"
        said.append(f"container '{each['name']}' of pod '{name}' has died meanwhile ({how})")
    return "; ".join(said)


def _containers(pods: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """Of pods that are not on their way out."""
    for pod in pods:
        if not pod["metadata"].get("deletionTimestamp"):
            for each in (pod.get("status") or {}).get("containerStatuses") or []:
                yield pod, each
