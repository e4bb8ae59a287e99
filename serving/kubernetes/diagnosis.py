"""Why a Deployment's new pods are not ready: one message a cause, with what to do about it."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from serving.kubernetes.api import Object

NEVER = float("inf")
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NO_RUNTIME = ("NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled")
STORAGE_INITIALIZER = "storage-initializer"
_CLAIM = re.compile(r'persistentvolumeclaim "(?P<claim>[^"]+)" (?:is )?not (?:found|bound)')


class Log(NamedTuple):
    """A container's output that belongs to a problem."""

    pod: str
    container: str
    previous: bool  # of the run before, where the container has been started again since


class Problem(NamedTuple):
    """Something that keeps pods from being ready."""

    text: str
    # How long it may last before nothing but a person will end it: time for a registry to answer
    # again, or a container to start once more. NEVER: something else may yet, such as a new node.
    patience_s: float = NEVER
    log: Log | None = None
    key: str = ""  # stays the same while counters and times in `text` change


def find_problems(
    service: Object,
    deployment: Object | None,
    pods: Iterable[Object],
    events: Iterable[Object],
    storage_uri: str,
) -> list[Problem]:
    """What stands in the way of an InferenceService's new pods, the gravest first.

    Args:
        service: the InferenceService.
        deployment: of the slot, if there is one yet.
        pods: those of the new version.
        events: of the namespace, from the time since the rollout began.
        storage_uri: of the new version.
    """
    found = [*_of_service(service), *_of_deployment(deployment)]
    warnings = [each for each in events if each.get("type") == "Warning"]
    for pod in pods:
        found += _of_pod(pod, warnings, storage_uri)
    if deployment is None:
        found += _of_controller(service, warnings)
    return sorted(found, key=lambda problem: problem.patience_s)


def _of_service(service: Object) -> Iterator[Problem]:
    failure = ((service.get("status") or {}).get("modelStatus") or {}).get("lastFailureInfo") or {}
    if failure.get("reason") in _NO_RUNTIME:
        model = service["spec"]["predictor"].get("model") or {}
        yield Problem(
            f"InferenceService '{_name(service)}': {failure.get('message') or failure['reason']} "
            f"(its runtime is '{model.get('runtime')}'): apply the overlay again, which has the "
            "ServingRuntime 'kuberec-triton'",
            20,
            key="runtime",
        )


def _of_controller(service: Object, warnings: list[Object]) -> Iterator[Problem]:
    """Nobody made a Deployment."""
    mine = [
        event
        for event in warnings
        if event["involvedObject"].get("kind") == "InferenceService"
        and event["involvedObject"].get("name") == _name(service)
    ]
    if mine:
        yield Problem(
            f"KServe made no Deployment for InferenceService '{_name(service)}': "
            f"{mine[-1].get('message')}",
            key="controller",
        )
    else:
        yield Problem(
            f"nobody made a Deployment for InferenceService '{_name(service)}': is KServe's "
            "controller running (`kubectl get pods -n kserve`)?",
            key="controller",
        )


def _of_deployment(deployment: Object | None) -> Iterator[Problem]:
    for condition in ((deployment or {}).get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            name = _name(deployment or {})
            yield Problem(
                f"Deployment '{name}' may not make its pods: {condition.get('message')}: raise the "
                "quota, or change what the message names",
                20,
                key="replicas",
            )


def _of_pod(pod: Object, warnings: list[Object], storage_uri: str) -> Iterator[Problem]:
    name, status = _name(pod), pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield _unschedulable(name, str(condition.get("message") or condition.get("reason")))
    containers = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    specs = {
        each["name"]: each
        for each in [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    }
    explained = False
    for container in containers:
        spec = specs.get(container["name"]) or {}
        for problem in _of_container(name, container, spec, storage_uri):
            explained = True
            yield problem
    if explained:
        return
    mine = [each for each in warnings if each["involvedObject"].get("name") == name]
    for reason in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "Unhealthy"):
        of_reason = [each for each in mine if each.get("reason") == reason]
        if of_reason and reason != "Unhealthy":
            yield Problem(
                f"pod '{name}' cannot start ({reason}): {of_reason[-1].get('message')}: make what "
                "it names (Secrets and ConfigMaps are in the overlay, claims in the storage)",
                key=f"{name}:{reason}",
            )
        elif of_reason:
            yield _unready(name, containers, str(of_reason[-1].get("message")))


def _unready(pod: str, containers: list[Object], message: str) -> Problem:
    waiting = [each["name"] for each in containers if not each.get("ready")]
    container = waiting[0] if waiting else containers[0]["name"]
    return Problem(
        f"pod '{pod}', container '{container}': runs, but is not ready: {message.strip()}",
        log=Log(pod, container, False),
        key=f"{pod}:unready",
    )


def _unschedulable(pod: str, message: str) -> Problem:
    claim = _CLAIM.search(message)
    if claim:
        advice = (
            f"create the claim '{claim['claim']}' of the model store (a pvc:// store needs it in "
            "the endpoint's namespace), or correct serving.kubernetes.model_store"
        )
    elif "nvidia.com/gpu" in message:
        advice = (
            "no node has a free GPU: add one, or lower nvidia.com/gpu or the replicas in the "
            "overlay; a canary, as a rolling update, needs one pod more than serve"
        )
    elif "Insufficient" in message:
        advice = "add a node, or lower the requests or the replicas in the overlay"
    elif "taint" in message:
        advice = "no node lets it in: add a toleration, or a node without that taint"
    else:
        advice = "change the node selector or affinity in the overlay, or the nodes"
    return Problem(f"pod '{pod}' finds no node ({message}): {advice}", key=f"{pod}:node")


def _of_container(pod: str, status: Object, spec: Object, storage_uri: str) -> Iterator[Problem]:
    name, key = status["name"], f"{pod}:{status['name']}"
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    what = f"pod '{pod}', container '{name}'"
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    if reason in _IMAGE:
        yield Problem(
            f"{what}: image '{status.get('image') or spec.get('image')}' cannot be pulled "
            f"({message or reason}): check its name and tag (`images:` in the overlay's "
            "kustomization), that nodes reach the registry, and the pull secret",
            20,
            key=key,
        )
    elif reason in _CONFIG:
        yield Problem(
            f"{what}: cannot be started ({message or reason}): make what it names; Secrets and "
            "ConfigMaps are in the overlay",
            20,
            key=key,
        )
    elif ended and (ended.get("exitCode") or reason == "CrashLoopBackOff"):
        # A Triton that is started again may find what it missed; after some attempts it will not.
        patience = 10.0 if int(status.get("restartCount") or 0) >= 2 else NEVER
        previous = "terminated" not in state
        yield Problem(
            f"{what}: {_end(name, ended, spec, storage_uri)}",
            patience,
            Log(pod, name, previous),
            key,
        )


def _end(name: str, ended: dict[str, Any], spec: Object, storage_uri: str) -> str:
    """How a container ended, and what to do."""
    code = ended.get("exitCode")
    if name == STORAGE_INITIALIZER:
        return (
            f"'{storage_uri}' could not be loaded (exit status {code}): check that it is there and "
            "that the Secret of ServiceAccount 'endpoint' may read it"
        )
    if ended.get("reason") == "OOMKilled":
        limit = ((spec.get("resources") or {}).get("limits") or {}).get("memory", "none")
        return f"ran out of memory (limit {limit}): raise its memory limit in the overlay"
    if ended.get("message"):
        return f"ends again and again (exit status {code}): {str(ended['message']).strip()}"
    return f"ends again and again (exit status {code})"


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])
