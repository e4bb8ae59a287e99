"""One look at a version that is waited for: the InferenceService, its Deployment, its pods."""

import re
from typing import NamedTuple

from serving.inference_service import deployment_name
from serving.kubernetes.api import DEPLOYMENT, INFERENCE_SERVICE, POD, Cluster, Object
from serving.triton.repository import GPU, TENSORRT

_SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"
_MODELS = "/mnt/models"
_TRITON = "kserve-container"  # KServe's name for the runtime's own
_CONFIG_NAME = re.compile(r"--model-config-name[= ]([\w.-]+)")


class Wanted(NamedTuple):
    """Which version is waited for, and where."""

    namespace: str
    service: str
    slot: str | None
    storage_uri: str

    @property
    def deployment(self) -> str:
        return deployment_name(self.service, self.slot)


class Seen(NamedTuple):
    """One look at it."""

    service: Object
    deployment: Object | None
    pods: list[Object]


def look(cluster: Cluster, wanted: Wanted) -> Seen:
    """The InferenceService, the slot's Deployment, and its pods of every version."""
    service = cluster.get(INFERENCE_SERVICE, wanted.namespace, wanted.service)
    deployment = cluster.find(DEPLOYMENT, wanted.namespace, wanted.deployment)
    return Seen(service, deployment, pods_of(cluster, wanted.namespace, wanted.deployment))


def pods_of(cluster: Cluster, namespace: str, deployment: str) -> list[Object]:
    """A slot's pods, of every version."""
    return cluster.find_all(POD, namespace, labelSelector=f"app=isvc.{deployment}")


def storage_uri_of(thing: Object) -> str | None:
    """Which version a pod, or a Deployment's template, has: as its annotation or its mount says."""
    noted = (thing["metadata"].get("annotations") or {}).get(_SOURCE_URI)
    if noted:
        return str(noted)
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in thing["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    }
    for container in thing["spec"]["containers"]:
        for mount in container.get("volumeMounts") or []:
            if mount["mountPath"] == _MODELS and mount["name"] in claims:
                return f"pvc://{claims[mount['name']]}/{mount.get('subPath', '')}".rstrip("/")
    return None


def serves_on_gpu(pod: Object) -> bool:
    """Whether a pod's Triton takes a version's configs for GPUs, as its arguments say."""
    for container in pod["spec"]["containers"]:
        if container["name"] == _TRITON:
            words = [*(container.get("command") or []), *(container.get("args") or [])]
            names = _CONFIG_NAME.findall(" ".join(words))
            return bool(names) and names[-1] in (GPU, TENSORRT)
    return False


def serving_uri(cluster: Cluster, wanted: Wanted, other_than: str) -> str | None:
    """Another version that ready pods of the slot still have: what a killed rollout came from."""
    for pod in look(cluster, wanted).pods:
        uri = storage_uri_of(pod)
        if uri not in (None, other_than) and is_ready(pod):
            return uri
    return None


def new_pods(seen: Seen, wanted: Wanted) -> list[Object]:
    """Those of the version that is waited for, and not on their way out."""
    return of_version(seen.pods, wanted)


def of_version(pods: list[Object], wanted: Wanted) -> list[Object]:
    """As `new_pods`."""
    return [
        pod
        for pod in pods
        if storage_uri_of(pod) == wanted.storage_uri
        and not pod["metadata"].get("deletionTimestamp")
    ]


def condition(thing: Object, kind: str) -> Object:
    """A condition of its status, {} where it has none of the kind."""
    for each in (thing.get("status") or {}).get("conditions") or []:
        if each["type"] == kind:
            return dict(each)
    return {}


def is_ready(pod: Object) -> bool:
    """As the kubelet says."""
    return condition(pod, "Ready").get("status") == "True"
