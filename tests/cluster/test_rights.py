"""What each ServiceAccount may do and may not: asked of the server, as that account."""

import json
from collections.abc import Callable, Iterator

import pytest
from conftest import Place
from kubectl import Kubectl
from overlays import NAMESPACES

OVERLAY = "overlays/kind"
KUBEREC, GATEWAY, KUBEFLOW, _ = NAMESPACES
ELSEWHERE = "kube-system"

# resource: the verbs that are allowed, all others being refused.
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READ = ("get", "list", "watch")
ROLLOUT: dict[str, tuple[str, ...]] = {
    "inferenceservices.serving.kserve.io": (*READ, "create", "patch"),
    "inferenceservices.serving.kserve.io/status": ("get",),
    "servingruntimes.serving.kserve.io": ("get",),
    "deployments.apps": READ,
    "pods": READ,
    "pods/log": ("get",),
    "pods/proxy": ("get", "create"),
    "services": READ,
    "events": (*READ, "create"),
    "httproutes.gateway.networking.k8s.io": READ,
    "scaledobjects.keda.sh": ("get", "patch"),
    "horizontalpodautoscalers.autoscaling": (),
    "configmaps": ("create",),
    "leases.coordination.k8s.io": ("create",),
    "secrets": (),
    "pods/exec": (),
    "pods/attach": (),
    "pods/portforward": (),
    "serviceaccounts": (),
    "serviceaccounts/token": (),
    "roles.rbac.authorization.k8s.io": (),
    "rolebindings.rbac.authorization.k8s.io": (),
    "networkpolicies.networking.k8s.io": (),
    "persistentvolumeclaims": (),
    "statefulsets.apps": (),
    "deployments.apps/scale": (),
}
STEPS: dict[str, tuple[str, ...]] = {
    "workflowtaskresults.argoproj.io": ("create", "patch"),
    "workflows.argoproj.io": READ,
    "pods": READ,
    "pods/log": ("get",),
    "events": READ,
    "persistentvolumeclaims": READ,
    "trainjobs.trainer.kubeflow.org": (*READ, "create", "patch", "delete"),
    "secrets": (),
    "configmaps": (),
    "pods/exec": (),
    "jobs.batch": (),
    "deployments.apps": (),
    "serviceaccounts/token": (),
    "rolebindings.rbac.authorization.k8s.io": (),
}
NOTHING: dict[str, tuple[str, ...]] = dict.fromkeys(
    (
        *("secrets", "configmaps", "pods", "pods/exec", "deployments.apps"),
        *("inferenceservices.serving.kserve.io", "trainjobs.trainer.kubeflow.org"),
    ),
    (),
)
READS_GATEWAY = {"gateways.gateway.networking.k8s.io": ("get",), "secrets": (), "pods": ()}

# (namespace, account): where: what
MATRIX = {
    (KUBEREC, "endpoint"): {KUBEREC: NOTHING, KUBEFLOW: NOTHING, ELSEWHERE: NOTHING},
    (KUBEREC, "rollout"): {
        KUBEREC: ROLLOUT,
        GATEWAY: READS_GATEWAY,
        KUBEFLOW: NOTHING,
        ELSEWHERE: NOTHING,
    },
    (KUBEFLOW, "kuberec-pipeline"): {
        KUBEREC: ROLLOUT,
        GATEWAY: READS_GATEWAY,
        KUBEFLOW: STEPS,
        ELSEWHERE: NOTHING,
    },
}
_HPA, _SCALED = "horizontalpodautoscalers.autoscaling", "scaledobjects.keda.sh"
_ROLLOUTS = ((KUBEREC, "rollout"), (KUBEFLOW, "kuberec-pipeline"))
# Single objects that an account may do something with, which it may not with their kind.
NAMED = [
    *(
        (account, KUBEREC, verb, resource, name, expected)
        for account in _ROLLOUTS
        for verb, resource, name, expected in (
            ("get", "configmaps", "recommend-rollout", True),
            ("patch", "configmaps", "recommend-rollout", True),
            ("delete", "configmaps", "recommend-rollout", False),
            ("get", "configmaps", "feature-store", False),
            ("get", "leases.coordination.k8s.io", "recommend-rollout", True),
            ("update", "leases.coordination.k8s.io", "recommend-rollout", True),
            ("update", "leases.coordination.k8s.io", "another", False),
            ("patch", "deployments.apps/scale", "recommend-green-predictor", True),
            ("patch", "deployments.apps/scale", "another", False),
            ("patch", "deployments.apps", "recommend-green-predictor", False),
            ("delete", _HPA, "recommend-green-predictor", True),
            ("delete", _HPA, "another", False),
            ("delete", _SCALED, "recommend-blue-predictor", True),
            ("delete", _SCALED, "recommend-blue", False),
        )
    ),
    ((KUBEFLOW, "kuberec-pipeline"), KUBEFLOW, "get", "configmaps", "kfp-launcher", True),
    ((KUBEFLOW, "kuberec-pipeline"), KUBEFLOW, "get", "configmaps", "feature-store", True),
    ((KUBEFLOW, "kuberec-pipeline"), KUBEFLOW, "get", "secrets", "mlpipeline-minio-artifact", True),
    ((KUBEFLOW, "kuberec-pipeline"), KUBEFLOW, "get", "secrets", "redis", False),
    ((KUBEFLOW, "kuberec-pipeline"), KUBEREC, "get", "secrets", "redis", False),
    ((KUBEREC, "rollout"), KUBEREC, "get", "secrets", "redis", False),
    ((KUBEREC, "endpoint"), KUBEREC, "get", "secrets", "redis", False),
]


@pytest.fixture
def place(place_of: Callable[[str], Place]) -> Place:
    return place_of(OVERLAY)


@pytest.mark.parametrize("account", MATRIX, ids="/".join)
def test_account_may_do_this_and_no_more(
    account: tuple[str, str], place: Place, kubectl: Kubectl
) -> None:
    questions = list(_questions(MATRIX[account], place))

    allowed = _ask(kubectl, _user(account, place), [attributes for attributes, _ in questions])

    wrong = [
        f"{'may' if got else 'may not'} {attributes}"
        for (attributes, expected), got in zip(questions, allowed, strict=True)
        if got != expected
    ]
    assert wrong == []


@pytest.mark.parametrize(("account", "where", "verb", "resource", "name", "expected"), NAMED)
def test_single_objects(
    account: tuple[str, str],
    where: str,
    verb: str,
    resource: str,
    name: str,
    expected: bool,
    place: Place,
    kubectl: Kubectl,
) -> None:
    attributes = _attributes(verb, resource, place.namespace(where)) | {"name": name}

    assert _ask(kubectl, _user(account, place), [attributes]) == [expected]


def _questions(
    rows: dict[str, dict[str, tuple[str, ...]]], place: Place
) -> Iterator[tuple[dict[str, str], bool]]:
    for where, table in rows.items():
        namespace = where if where == ELSEWHERE else place.namespace(where)
        for resource, verbs in table.items():
            for verb in VERBS:
                yield _attributes(verb, resource, namespace), verb in verbs


def _attributes(verb: str, resource: str, namespace: str) -> dict[str, str]:
    whole, _, part = resource.partition("/")
    kind, _, group = whole.partition(".")
    found = {"verb": verb, "group": group, "resource": kind, "namespace": namespace}
    return found | ({"subresource": part} if part else {})


def _user(account: tuple[str, str], place: Place) -> str:
    return f"system:serviceaccount:{place.namespace(account[0])}:{account[1]}"


def _ask(kubectl: Kubectl, user: str, questions: list[dict[str, str]]) -> list[bool]:
    """`kubectl auth can-i --as=USER`, many at a time."""
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        for attributes in questions
    ]
    answer = kubectl.run(
        *("create", f"--as={user}", "-o", "jsonpath={.status.allowed} ", "-f", "-"),
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews}),
    )
    return [word == "true" for word in answer.split()]
