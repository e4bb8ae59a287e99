"""Events on the InferenceService: what `kubectl describe` and event exporters show of a rollout."""

import contextlib
import uuid
from datetime import UTC, datetime

from serving.inference_service import FIELD_MANAGER
from serving.kubernetes.api import EVENT, INFERENCE_SERVICE, Cluster, Object
from serving.kubernetes.errors import ClusterError
from serving.rollout.kserve.lease import identity

_LONGEST = 1024  # characters, which the API allows


def announce(cluster: Cluster, service: Object, reason: str, message: str, warning: bool) -> None:
    """Tell it; where the cluster refuses, nothing happens.

    Args:
        service: the InferenceService.
        reason: in CamelCase.
    """
    metadata = service["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 1] + "…"
    body = {
        "apiVersion": EVENT.group_version,
        "kind": EVENT.kind,
        "metadata": {"namespace": namespace, "name": f"{name}.{uuid.uuid4().hex[:16]}"},
        "involvedObject": {
            "apiVersion": INFERENCE_SERVICE.group_version,
            "kind": INFERENCE_SERVICE.kind,
            "namespace": namespace,
            "name": name,
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": identity()[:128],
    }
    with contextlib.suppress(ClusterError):
        cluster.create(EVENT, body)
