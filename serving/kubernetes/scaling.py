"""Autoscalers: waking the one whose slot is filled, removing those that KServe left behind.

KEDA looks for a ScaledObject's Deployment ever less often while there is none, up to every 16
minutes, and nothing tells it when there is one. Of what may be changed without touching the
object's spec, only pausing makes it look at once (KEDA 2.21, tried on a cluster).
"""

from collections.abc import Collection

from serving.inference_service import FIELD_MANAGER, SLOTS, deployment_name
from serving.kubernetes.api import AUTOSCALER, DEPLOYMENT, SCALED_OBJECT, Cluster, Object
from serving.kubernetes.errors import ClusterError
from serving.kubernetes.waiting import Say

_PAUSED = "autoscaling.keda.sh/paused"


def wake_autoscaler(cluster: Cluster, namespace: str, service: str, slot: str, say: Say) -> None:
    """Let KEDA see that `slot` has its Deployment; does nothing where it knows, or is paused.

    What serves is not touched. Without a ScaledObject of the manifests' name somebody has
    autoscaling of their own; a refusal is told, and the rollout goes on.
    """
    name = f"{service}-{slot}"
    try:
        found = cluster.find(SCALED_OBJECT, namespace, name)
        if found is None or _is_watched(found) or is_paused(found):
            return
        say(f"waking ScaledObject '{name}'")
        for annotations in ({_PAUSED: "true"}, {}):
            annotate(cluster, found, annotations, FIELD_MANAGER)
    except ClusterError as error:
        say(f"ScaledObject '{name}' could not be woken, KEDA may see its pods late: {error}")


def annotate(cluster: Cluster, scaled: Object, annotations: dict[str, str], manager: str) -> None:
    """Set these of a ScaledObject; what the manager owned and names no longer is taken away."""
    metadata = {key: scaled["metadata"][key] for key in ("name", "namespace")}
    body = {
        "apiVersion": SCALED_OBJECT.group_version,
        "kind": SCALED_OBJECT.kind,
        "metadata": metadata | ({"annotations": annotations} if annotations else {}),
    }
    cluster.apply(SCALED_OBJECT, body, manager)


def _is_watched(scaled: Object) -> bool:
    conditions = (scaled.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def is_paused(scaled: Object) -> bool:
    """Whether an operator holds its count; one that may only not scale in (or out) is not."""
    annotations = scaled["metadata"].get("annotations") or {}
    return any(key in annotations for key in (_PAUSED, f"{_PAUSED}-replicas"))


def remove_orphans(
    cluster: Cluster, namespace: str, service: Object, keep: Collection[str | None], say: Say
) -> None:
    """Autoscalers that KServe made for a slot and left when it took the slot's Deployment away.

    Not those of the manifests, which have other names and another owner, and stay. A refusal is
    told: what is left behind scales nothing.

    Args:
        service: the InferenceService.
        keep: slots in use.
    """
    owner = service["metadata"]
    for slot in (None, *SLOTS):
        name = deployment_name(owner["name"], slot)
        if slot in keep:
            continue
        try:
            deployment = cluster.find(DEPLOYMENT, namespace, name)
            if deployment is not None and not deployment["metadata"].get("deletionTimestamp"):
                continue
            for kind in (SCALED_OBJECT, AUTOSCALER):  # the former takes its own of the latter along
                found = cluster.find(kind, namespace, name)
                owners = (found or {"metadata": {}})["metadata"].get("ownerReferences") or []
                if found and any(each.get("uid") == owner["uid"] for each in owners):
                    say(f"removing {kind.kind} '{name}', whose Deployment is gone")
                    cluster.delete(kind, found)
        except ClusterError as error:
            say(f"an autoscaler '{name}' may have been left behind: {error}")
