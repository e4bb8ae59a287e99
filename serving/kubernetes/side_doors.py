"""The side doors of the endpoint's pods, through the API server: from a laptop and a pod alike."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from recommender.errors import KuberecError
from serving.kubernetes.api import Cluster, Object
from serving.kubernetes.errors import ClusterError, Forbidden, PodRefused
from serving.kubernetes.seen import Wanted, is_ready, look, new_pods
from serving.rollout import side_door
from serving.rollout.evidence import MetricsUnavailable, Pair, Ranked, Request

PORT = 8081
# Both versions at once, and some requests of each: what is asked is not to wait for a look.
_AT_ONCE = 8
_SOME_PODS = 4  # whose clients' requests are sampled


class SideDoors:
    """Ways to pods."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace

    def call(self, pod: Object) -> side_door.Call:
        """The way to one pod."""
        name, port = str(pod["metadata"]["name"]), self.port(pod)

        def call(method: str, path: str, body: Any) -> Any:
            return self._cluster.proxy(method, self._namespace, name, port, path, body)

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


def sample(doors: SideDoors, pods: list[Object], limit: int) -> list[Request]:
    """What clients asked these pods of late.

    Raises:
        MetricsUnavailable: one does not answer.
    """
    some = pods[:_SOME_PODS]
    each = -(-limit // len(some))
    found: list[Request] = []
    for pod in some:
        try:
            found += side_door.sample(doors.call(pod), each)
        except (KuberecError, ValueError, OSError) as error:
            raise _unavailable(pod, error) from error
    return found[:limit]


def ask_both(
    doors: SideDoors, stable: list[Object], canary: list[Object], requests: list[Request]
) -> list[Pair]:
    """The same requests to pods of either version, by turns. An error is an answer too: None.

    Raises:
        MetricsUnavailable: a pod is not reached at all, which says nothing about its version.
    """

    def ranked(pods: list[Object], number: int) -> Ranked | None:
        pod = pods[number % len(pods)]
        try:
            return side_door.ask(doors.call(pod), requests[number]).ranked
        except PodRefused:
            return None
        except (KuberecError, ValueError, OSError) as error:
            raise _unavailable(pod, error) from error

    numbers = range(len(requests))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        first = pool.map(lambda number: ranked(stable, number), numbers)
        second = pool.map(lambda number: ranked(canary, number), numbers)
        return [side_door.pair(*each) for each in zip(requests, first, second, strict=True)]


def _unavailable(pod: Object, error: Exception) -> MetricsUnavailable:
    why = str(error)
    if not isinstance(error, Forbidden):
        why += (
            "; is a NetworkPolicy between the API server and that port, or is the transformer of "
            f"an older image (--side_port={PORT})?"
        )
    name = pod["metadata"]["name"]
    return MetricsUnavailable(f"the side door of pod '{name}', port {PORT}, is not reached: {why}")
