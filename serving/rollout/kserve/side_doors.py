"""The side doors of the endpoint's pods, through the API server: from a laptop and a pod alike."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recommender.errors import KuberecError
from serving.kubernetes.api import Cluster, Object
from serving.kubernetes.errors import ClusterError, Forbidden, PodRefused
from serving.kubernetes.seen import Wanted, is_ready, look, new_pods
from serving.rollout import side_door
from serving.rollout.evidence import MetricsUnavailable, Pair, Ranked, Request

PORT = 8081
_AT_ONCE = 4  # requests that both versions are asked
# A canary that hangs must not keep its rollout from noticing: longest for one answer, and for the
# last question of several to begin.
_ANSWER_S, _ASKING_S = 5.0, 10.0
_SOME_PODS = 2  # of either version, whose clients' requests are sampled


class SideDoors:
    """Ways to pods."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def call(self, pod: Object) -> side_door.Call:
        """The way to one pod."""
        name, port = str(pod["metadata"]["name"]), self.port(pod)

        def call(method: str, path: str, body: Any) -> Any:
            return self._cluster.proxy(method, self._namespace, name, port, path, body, _ANSWER_S)

        return call

    def port(self, pod: Object) -> int:
        """Where its side door is."""
        return PORT


def ready_pods(cluster: Cluster, wanted: Wanted) -> list[Object]:
    """Those of the version that may be asked.

    Raises:
        ClusterError: there is none; or the API refuses.
    """
    pods = [pod for pod in new_pods(look(cluster, wanted), wanted) if is_ready(pod)]
    if not pods:
        raise ClusterError(
            f"no pod of Deployment '{wanted.deployment}' in namespace '{wanted.namespace}' is "
            f"ready with {wanted.storage_uri}"
        )
    return pods


def sample(
    doors: SideDoors, stable: list[Object], canary: list[Object], limit: int
) -> list[Request]:
    """What clients asked pods of either version of late, at random.

    Raises:
        MetricsUnavailable: a pod does not answer.
    """
    some = [
        pod for pods in (stable, canary) for pod in random.sample(pods, min(_SOME_PODS, len(pods)))
    ]
    each = -(-limit // len(some))
    found: list[Request] = []
    for pod in some:
        try:
            found += side_door.sample(doors.call(pod), each)
        except (KuberecError, ValueError, OSError) as error:
            raise _unavailable(pod, error) from error
    random.shuffle(found)  # or the last pods' would be those that are cut off
    return found[:limit]


def ask_both(
    doors: SideDoors, stable: list[Object], canary: list[Object], requests: list[Request]
) -> list[Pair]:
    """The same requests to pods of either version, by turns, or as many as time allows.

    An error is an answer too: None.

    Raises:
        MetricsUnavailable: a pod is not reached at all, which says nothing about its version.
    """

    late = time.monotonic() + _ASKING_S
    given_up = threading.Event()

    def ranked(pods: list[Object], number: int) -> Ranked | None:
        pod = pods[number % len(pods)]
        try:
            return side_door.ask(doors.call(pod), requests[number]).ranked
        except PodRefused:
            return None
        except (KuberecError, ValueError, OSError) as error:
            given_up.set()
            raise _unavailable(pod, error) from error

    def answers(number: int) -> Pair | None:
        if given_up.is_set() or time.monotonic() > late:
            return None
        return side_door.pair(requests[number], ranked(stable, number), ranked(canary, number))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(answers, range(len(requests)))
        return [each for each in found if each is not None]


def _unavailable(pod: Object, error: Exception) -> MetricsUnavailable:
    why = str(error)
    if not isinstance(error, Forbidden):
        why += (
            "; is a NetworkPolicy between the API server and that port, or is the transformer of "
            f"an older image (--side_port={PORT})?"
        )
    name = pod["metadata"]["name"]
    return MetricsUnavailable(f"the side door of pod '{name}', port {PORT}, is not reached: {why}")
