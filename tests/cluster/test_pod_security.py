"""Every pod that the manifests lead to is admitted at the level of its namespace."""

import copy
from collections.abc import Callable

import pytest
from conftest import Place
from kserve_pods import assemble
from kubectl import Kubectl, KubectlFailed, Object
from overlays import find, find_overlays

ENDPOINTS = [name for name in find_overlays() if name.startswith("overlays/")]


def _endpoint_pod(place: Place) -> Object:
    initializers = [one for one in place.objects if one["kind"] == "ClusterStorageContainer"]
    return assemble(
        find(place.objects, "ServingRuntime"),
        find(place.objects, "InferenceService"),
        initializers[0] if initializers else None,
    )


def _admit(kubectl: Kubectl, pod: Object) -> str:
    """What the server says to a pod that it does not keep; raises where it refuses it."""
    return str(kubectl.apply([pod], "test", "--dry-run=server"))


@pytest.mark.parametrize("overlay", ENDPOINTS)
def test_endpoint_pods_are_admitted(
    overlay: str, place_of: Callable[[str], Place], kubectl: Kubectl
) -> None:
    _admit(kubectl, _endpoint_pod(place_of(overlay)))


@pytest.mark.parametrize("overlay", ENDPOINTS)
def test_redis_pods_are_admitted(
    overlay: str, place_of: Callable[[str], Place], kubectl: Kubectl
) -> None:
    place = place_of(overlay)
    redis = find(place.objects, "StatefulSet", "redis")
    spec = copy.deepcopy(redis["spec"]["template"]["spec"])
    spec["volumes"].append({"name": "data", "emptyDir": {}})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "redis", "namespace": redis["metadata"]["namespace"]},
        "spec": spec,
    }

    _admit(kubectl, pod)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"capabilities": {}}, "unrestricted capabilities"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation != false"),
        ({"runAsNonRoot": False}, "runAsNonRoot != true"),
        ({"runAsUser": 0}, "runAsUser=0"),
    ],
)
def test_the_level_is_enforced(
    change: Object, complaint: str, place_of: Callable[[str], Place], kubectl: Kubectl
) -> None:
    pod = _endpoint_pod(place_of("overlays/kind"))
    pod["spec"]["containers"][0]["securityContext"] |= change

    with pytest.raises(KubectlFailed, match=complaint):
        _admit(kubectl, pod)


@pytest.mark.parametrize("overlay", ENDPOINTS)
def test_containers_are_as_the_documents_say(
    overlay: str, place_of: Callable[[str], Place]
) -> None:
    spec = _endpoint_pod(place_of(overlay))["spec"]

    assert spec["automountServiceAccountToken"] is False
    longest = 0
    for container in spec["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} <= set(container["resources"])
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        longest = max(longest, container["lifecycle"]["preStop"]["sleep"]["seconds"])
    assert spec["terminationGracePeriodSeconds"] > longest
