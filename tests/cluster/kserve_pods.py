"""The pod that KServe makes of a ServingRuntime and an InferenceService.

After kserve, pkg/controller/v1beta1/inferenceservice: utils.MergePodSpec takes a runtime's volumes,
affinity, node selector and tolerations, the rest of the pod comes from the predictor;
Predictor.buildPodSpec joins the containers; pkg/webhook/admission/pod adds the model's volume.
"""

import copy
from typing import Any

from kubectl import Object

_NOT_OF_A_POD = (
    *("model", "name", "annotations", "labels", "deploymentStrategy", "storageContainerName"),
    *("minReplicas", "maxReplicas"),
)


def assemble(runtime: Object, service: Object, initializer: Object | None = None) -> Object:
    """A Pod as the endpoint's Deployment would have it.

    Args:
        initializer: the ClusterStorageContainer that fetches the model; without one the model
            lies on a claim.
    """
    runtime, service = copy.deepcopy(runtime), copy.deepcopy(service)
    predictor: dict[str, Any] = service["spec"]["predictor"]
    pod = {key: value for key, value in predictor.items() if key not in _NOT_OF_A_POD}
    containers = [*runtime["spec"]["containers"], *predictor["containers"]]
    model = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    pod["containers"] = [
        each | {"volumeMounts": [*each["volumeMounts"], model | {"readOnly": True}]}
        for each in containers
    ]
    source: dict[str, Any] = {"persistentVolumeClaim": {"claimName": "kuberec-models"}}
    if initializer is not None:
        container = initializer["spec"]["container"]
        pod["initContainers"] = [container | {"volumeMounts": [model]}]
        source = {"emptyDir": {}}
    pod["volumes"] = [
        *runtime["spec"]["volumes"],
        *predictor["volumes"],
        {"name": model["name"]} | source,
    ]
    for key in ("nodeSelector", "tolerations", "affinity"):
        if key in runtime["spec"]:
            pod.setdefault(key, runtime["spec"][key])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "recommend-blue-predictor",
            "namespace": service["metadata"]["namespace"],
            "labels": {"app": "isvc.recommend-blue-predictor"},
        },
        "spec": pod,
    }
