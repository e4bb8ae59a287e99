"""What serves in both slots of an InferenceService, seen at once."""

from typing import NamedTuple

from serving.inference_service import Serving, deployment_name, read_serving, version_of
from serving.kubernetes.api import DEPLOYMENT, INFERENCE_SERVICE, Cluster, Object
from serving.kubernetes.errors import NotFound
from serving.kubernetes.seen import condition, storage_uri_of
from serving.kubernetes.shares import Shares, shares

_NO_SHARES = Shares([], False)


class Look(NamedTuple):
    """One look at both slots.

    Attributes:
        shares: the canary's; where there is no canary, of nobody.
    """

    service: Object
    serving: Serving
    stable: Object | None
    canary: Object | None
    shares: Shares

    @property
    def stable_trouble(self) -> str:
        """Why stable is not ready; "" if it is."""
        found = condition(self.service, "PredictorReady")
        if found.get("status") != "True":
            why = found.get("message") or found.get("reason") or "KServe gives no reason"
            return f"InferenceService has PredictorReady={found.get('status', 'missing')}: {why}"
        return trouble(self.stable, self.serving.storage_uri)

    @property
    def canary_trouble(self) -> str:
        """Why the canary is not ready; "" if it is, or if there is none."""
        canary = self.serving.canary
        return trouble(self.canary, canary.storage_uri) if canary else ""


def trouble(deployment: Object | None, storage_uri: str | None) -> str:
    """Why no pod of a Deployment answers by that version; "" if one does."""
    if deployment is None:
        return "it has no Deployment"
    name, status = deployment["metadata"]["name"], deployment.get("status") or {}
    if storage_uri_of(deployment["spec"]["template"]) != storage_uri:
        return f"Deployment '{name}' does not have {version_of(storage_uri)} yet"
    if not status.get("availableReplicas"):
        replicas = deployment["spec"].get("replicas", 1)
        return f"Deployment '{name}': 0 of {replicas} pods available"
    return ""


def look_at_both(cluster: Cluster, namespace: str, name: str) -> Look:
    """What is there now.

    Raises:
        ClusterError
    """
    service = cluster.get(INFERENCE_SERVICE, namespace, name)
    serving = read_serving(service)
    slot = serving.canary.slot if serving.canary else None
    try:
        found = shares(cluster, namespace, name, serving.slot, slot)
    except NotFound:
        found = _NO_SHARES

    def deployment(of: str | None) -> Object | None:
        return cluster.find(DEPLOYMENT, namespace, deployment_name(name, of))

    stable, canary = deployment(serving.slot), deployment(slot) if slot else None
    return Look(service, serving, stable, canary, found)
