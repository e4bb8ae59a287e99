"""What the played controllers write: objects and statuses as the real ones have them."""

from room import SERVICE, Object

from serving.kubernetes.api import AUTOSCALER, INFERENCE_SERVICE

SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
READY: Object = {
    "phase": "Running",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True"},
    ],
}
UNREADY: Object = {
    "phase": "Running",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "False"},
    ],
}
NO_NODE: Object = {
    "phase": "Pending",
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        },
        {"type": "Ready", "status": "False"},
    ],
}


def owner(service: Object) -> Object:
    """The reference of what KServe makes to the InferenceService."""
    return {
        "apiVersion": INFERENCE_SERVICE.group_version,
        "kind": INFERENCE_SERVICE.kind,
        "name": SERVICE,
        "uid": service["metadata"]["uid"],
        "controller": True,
    }


def autoscaler(name: str) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "apiVersion": AUTOSCALER.group_version,
        "kind": AUTOSCALER.kind,
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 1},
    }


def deployment_of(name: str, uri: str) -> Object:
    labels = {"app": f"isvc.{name}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": labels, "annotations": {SOURCE_URI: uri}},
                "spec": {
                    "containers": [
                        {"name": "kserve-container", "image": "kuberec/triton:0.1.0"},
                        {"name": "transformer-container", "image": "kuberec/transformer:9"},
                    ]
                },
            },
        },
    }
