"""The TrainJob object (trainer.kubeflow.org/v1alpha1, as released with Kubeflow Trainer 2.3)."""

import os
from typing import Any

from components.trainjob.settings import NodesPlan

MANAGER = "kuberec.io/train"  # of our patch to the runtime, and of server-side apply
KEY_LABEL = "kuberec.io/training"
NODE = "node"  # the replicated job and the container of every torch runtime


def train_job(name: str, namespace: str, key: str, folder: str, plan: NodesPlan) -> dict[str, Any]:
    """The object: torchrun on every node, the workspace mounted, the step's pod as owner.

    Args:
        key: of the training; a label, by which a step that is started again finds its job.
        folder: of the exchange (components.trainjob.node), below the workspace's mount.
    """
    labels = {"app.kubernetes.io/part-of": "kuberec", "kuberec.io/step": "train", KEY_LABEL: key}
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": labels}
    if owner := _owner():
        metadata["ownerReferences"] = [owner]
    # torchrun reads nodes, rank and master from PET_* variables that the runtime sets.
    trainer: dict[str, Any] = {
        "image": plan.image,
        "command": ["torchrun"],
        "args": ["-m", "components.trainjob.node", folder],
        "env": [{"name": name, "value": value} for name, value in sorted(plan.env.items())],
        "numNodes": plan.nodes,
        "resourcesPerNode": {"requests": plan.requests, "limits": plan.limits},
        # Left out, the runtime would start a process for each CPU.
        "numProcPerNode": plan.processes or 1,
    }
    spec: dict[str, Any] = {
        "runtimeRef": {"name": plan.runtime},
        "trainer": trainer,
        "runtimePatches": [_patch(labels, plan)],
    }
    if plan.timeout_s:
        spec["activeDeadlineSeconds"] = plan.timeout_s
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata,
        "spec": spec,
    }


def _patch(labels: dict[str, str], plan: NodesPlan) -> dict[str, Any]:
    """What a TrainJob cannot say of pods by itself: volumes, user, place."""
    volumes: list[dict[str, Any]] = [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": plan.claim}},
        {"name": "tmp", "emptyDir": {}},
    ]
    workspace = {"name": "workspace", "mountPath": plan.claim_path}
    if plan.claim_sub_path:
        workspace["subPath"] = plan.claim_sub_path
    mounts = [workspace, {"name": "tmp", "mountPath": "/tmp"}]
    if plan.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": plan.shared_memory}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    container = {
        "name": NODE,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod: dict[str, Any] = {
        "volumes": volumes,
        "containers": [container],
        "securityContext": {
            "runAsUser": plan.run_as,
            "runAsGroup": plan.run_as,
            "fsGroup": plan.run_as,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if plan.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in plan.image_pull_secrets]
    if plan.node_selector:
        pod["nodeSelector"] = plan.node_selector
    if plan.tolerations:
        pod["tolerations"] = plan.tolerations
    template = {"metadata": {"labels": labels}, "spec": pod}
    jobs = [{"name": NODE, "template": {"spec": {"template": template}}}]
    return {
        "manager": MANAGER,
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}},
    }


def _owner() -> dict[str, Any] | None:
    """The step's own pod, as Kubeflow tells it: with the run's pods the TrainJob goes too."""
    name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
    if not (name and uid):
        return None
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
