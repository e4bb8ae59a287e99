"""What the Kubernetes API answers when it does not do as asked, as one message with a way out."""

import json
import re
from typing import Any, NamedTuple

from recommender.errors import KuberecError

_WHO = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?'
)
_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]+)"')


class ClusterError(KuberecError):
    """The cluster cannot be reached, or refuses."""


class Forbidden(ClusterError):
    """A verb that the caller may not use."""


class NotFound(ClusterError):
    """An object, or its kind, that is not there."""


class Conflict(ClusterError):
    """Fields that somebody else owns."""


class Away(ClusterError):
    """The API server cannot be reached, or cannot answer now: asked again, it may."""


class Changed(ClusterError):
    """An object that somebody else made or changed at the same time."""


class Asked(NamedTuple):
    """What was asked of the API, for messages."""

    verb: str  # as RBAC names it
    kind: str
    plural: str  # with its group: inferenceservices.serving.kserve.io
    namespace: str
    name: str | None
    server: str

    def __str__(self) -> str:
        if self.name is None:
            return f"{self.plural} in namespace '{self.namespace}'"
        return f"{self.kind} '{self.name}' in namespace '{self.namespace}'"


class PodRefused(ClusterError):
    """An error that a pod itself answered, through the API server."""

    def __init__(self, asked: Asked, status: int, text: str) -> None:
        super().__init__(
            f"pod '{asked.name}' in namespace '{asked.namespace}' answers {status}: "
            f"{text.strip()[:300] or 'nothing'}"
        )
        self.status = status


def is_status(body: str) -> bool:
    """Whether the API server itself wrote this."""
    return _read(body).get("kind") == "Status"


def explain(asked: Asked, status: int, body: str) -> ClusterError:
    """The error for an HTTP status and the Status object that came with it."""
    answer = _read(body)
    message = str(answer.get("message") or body.strip() or f"HTTP {status}")
    if status == 401:
        return ClusterError(
            f"{asked.server} does not know who asks (401): the token or certificate of the "
            "kubeconfig has expired or is of another cluster; log in again"
        )
    if status == 403:
        return _forbidden(asked, message)
    if status == 404:
        return _not_found(asked, answer)
    if status == 409:
        return _conflict(asked, answer, message)
    kind = Away if status == 429 or status >= 500 else ClusterError
    return kind(f"{asked.server} refuses to {asked.verb} {asked} ({status}): {message}")


def _read(body: str) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _forbidden(asked: Asked, message: str) -> ClusterError:
    found = _WHO.search(message)
    if found is None:  # not RBAC: a quota, a namespace that is being deleted, an admission plugin
        return Forbidden(f"{asked.server} refuses to {asked.verb} {asked}: {message}")
    user, verb = found["user"], found["verb"]
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    who = f"user '{user}'"
    if user.startswith("system:serviceaccount:"):
        namespace, account = user.split(":")[2:4]
        who = f"ServiceAccount '{account}' of namespace '{namespace}'"
    return Forbidden(
        f"{who} may not {verb} {resource} in namespace '{asked.namespace}': bind it to the Role "
        "'rollout' there (`kubectl apply --server-side -k` of the overlay does it for the accounts "
        f"'rollout' and 'kuberec-pipeline'); `kubectl auth can-i {verb} {resource} "
        f"-n {asked.namespace} --as {user}` shows when it may"
    )


def _not_found(asked: Asked, answer: dict[str, Any]) -> ClusterError:
    # For a path of no known kind the server answers plain text, or a Status without a name.
    if not (answer.get("details") or {}).get("name"):
        return NotFound(
            f"{asked.server} has no resource {asked.plural}: install what defines it first "
            "(manifests/platform has KServe and the Gateway API; `kubectl api-resources` lists "
            "what there is)"
        )
    return NotFound(f"there is no {asked}")


def _conflict(asked: Asked, answer: dict[str, Any], message: str) -> ClusterError:
    causes = (answer.get("details") or {}).get("causes") or []
    fields = []
    for cause in causes:
        if cause.get("reason") == "FieldManagerConflict":
            found = _MANAGER.search(str(cause.get("message", "")))
            fields.append((found["manager"] if found else "?", str(cause.get("field", "?"))))
    if not fields:
        return Changed(f"{asked} was changed by somebody else at the same time: {message}")
    listed = ", ".join(f"'{manager}' owns {field}" for manager, field in fields)
    return Conflict(
        f"{asked} is not changed, since somebody else manages what a rollout sets: {listed}. "
        "Ask who did that (`kubectl get --show-managed-fields -o yaml` shows when); "
        "`kuberec deploy --force` takes the fields over"
    )
