"""Enough pods for a share of the requests, before they come.

An autoscaler follows the load; load that comes at once meets the pods of before. So who is to get
more is scaled first, by its Deployment's subresource `scale`. An HPA would take pods without load
away again at its next look: its stabilisation window is of what it recommended, not of what there
is. KEDA's annotation paused-scale-in (2.18 and later) holds them, and lets it add more; it is set
by a field manager of its own, so that taking it away leaves everything else as it was. A count that
nothing scales stays by itself, since KServe leaves it alone (autoscalerClass `external`).
"""

import math
import time
from collections.abc import Callable

from serving.inference_service import SLOTS, deployment_name
from serving.kubernetes.api import DEPLOYMENT, SCALED_OBJECT, Cluster, Object
from serving.kubernetes.errors import ClusterError
from serving.kubernetes.scaling import annotate, is_paused
from serving.kubernetes.seen import condition, pods_of
from serving.kubernetes.waiting import Say

SCALE_MANAGER = "kuberec-rollout-scale"
_HELD = "autoscaling.keda.sh/paused-scale-in"
_POLL_S = 0.5


def needed(share: int, alone: int, pods: int, share_now: int) -> int:
    """Pods that a share of the requests needs.

    Args:
        share: the share to come, in percent.
        alone: pods that stable had when it served alone.
        pods, share_now: of the other version, which has the requests now. Where it has more pods
            than `alone`, load has grown since, and they are the better measure.
    """
    whole = float(alone)
    if share_now and pods > alone:
        whole = max(whole, pods * 100 / share_now)
    return max(math.ceil(whole * share / 100 - 1e-6), 1)


def available(deployment: Object | None) -> int:
    """Pods of a Deployment that answer."""
    return int(((deployment or {}).get("status") or {}).get("availableReplicas") or 0)


class Scaler:
    """Brings a slot's pods to a number.

    Args:
        attend: called with each look; what it raises ends the wait.
    """

    def __init__(
        self, cluster: Cluster, namespace: str, service: str, say: Say, attend: Callable[[], None]
    ) -> None:
        self._cluster, self._namespace, self._service = cluster, namespace, service
        self._say, self._attend = say, attend

    def bring(
        self,
        slot: str | None,
        count: int,
        timeout_s: float,
        worth: Callable[[], bool] = lambda: True,
    ) -> str:
        """Wait until so many pods of a slot answer, or as many as its autoscaler may have.

        Args:
            worth: whether to wait on.

        Returns:
            "", or why there are fewer, in words; the Deployment then asks for those that there are.

        Raises:
            ClusterError
        """
        scaled = self._cluster.find(SCALED_OBJECT, self._namespace, f"{self._service}-{slot}")
        if scaled is not None:
            if is_paused(scaled):
                self._say(f"slot {slot} is scaled by hand (its ScaledObject is paused): as it is")
                return ""
            count = min(count, int(scaled["spec"].get("maxReplicaCount") or 100))
            if count > int(scaled["spec"].get("minReplicaCount") or 0):
                self._hold(scaled)
        name, begin = deployment_name(self._service, slot), time.monotonic()
        told, late = False, ""
        while True:
            self._attend()
            deployment = self._cluster.find(DEPLOYMENT, self._namespace, name)
            found = available(deployment)
            if deployment is None or found >= count:
                return ""
            asked = int(deployment["spec"].get("replicas", 1))
            if time.monotonic() - begin > timeout_s:
                late = (
                    f"Deployment '{name}' has {found} of the {count} pods that it needs, after "
                    f"{timeout_s:g} s{self._why(name)}"
                )
            if late or not worth():
                # A Deployment that lacks pods is not Available: of stable's KServe would make a
                # predictor that is not ready, and leave the routes as they are.
                if asked > found:
                    self._cluster.scale(self._namespace, name, max(found, 1))
                return late
            if asked < count:
                self._cluster.scale(self._namespace, name, count)
            if not told:
                self._say(f"{name}: {found} pods, waiting for {count} before it gets more requests")
                told = True
            time.sleep(_POLL_S)

    def _hold(self, scaled: Object) -> None:
        try:
            annotate(self._cluster, scaled, {_HELD: "true"}, SCALE_MANAGER)
        except ClusterError as error:
            name = scaled["metadata"]["name"]
            self._say(f"ScaledObject '{name}' may take pods away before they are used: {error}")

    def _why(self, name: str) -> str:
        """What the scheduler says of a pod that it finds no node for."""
        for pod in pods_of(self._cluster, self._namespace, name):
            scheduled = condition(pod, "PodScheduled")
            if scheduled.get("status") == "False":
                why = scheduled.get("message") or scheduled.get("reason")
                return f": pod '{pod['metadata']['name']}' finds no node ({why})"
        return ""


def release(cluster: Cluster, namespace: str, service: str, say: Say) -> None:
    """Let both slots' autoscalers take pods away again. A refusal is told."""
    for slot in SLOTS:
        try:
            found = cluster.find(SCALED_OBJECT, namespace, f"{service}-{slot}")
            managers = (found or {"metadata": {}})["metadata"].get("managedFields") or []
            if found and any(each.get("manager") == SCALE_MANAGER for each in managers):
                annotate(cluster, found, {}, SCALE_MANAGER)
        except ClusterError as error:
            say(
                f"ScaledObject '{service}-{slot}' may be held from taking pods away still "
                f"({_HELD}; the next rollout ends that): {error}"
            )
