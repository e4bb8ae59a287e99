"""The Kubernetes API as the rollout needs it: few kinds, plain dictionaries, readable errors."""

import contextlib
import os
from typing import Any, NamedTuple

from serving.kubernetes.errors import (
    Asked,
    Away,
    ClusterError,
    NotFound,
    PodRefused,
    explain,
    is_status,
)

Object = dict[str, Any]
_BODY = {"PATCH": "application/apply-patch+yaml"}  # server-side apply; others send JSON
_MERGE = "application/merge-patch+json"
_REQUEST_TIMEOUT_S = 30.0


class Resource(NamedTuple):
    """A namespaced kind: where it lies in the API."""

    group_version: str  # "v1" for the core group
    plural: str
    kind: str

    @property
    def root(self) -> str:
        prefix = "/api/" if "/" not in self.group_version else "/apis/"
        return prefix + self.group_version

    @property
    def full_plural(self) -> str:
        group = self.group_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


INFERENCE_SERVICE = Resource("serving.kserve.io/v1beta1", "inferenceservices", "InferenceService")
SERVING_RUNTIME = Resource("serving.kserve.io/v1alpha1", "servingruntimes", "ServingRuntime")
DEPLOYMENT = Resource("apps/v1", "deployments", "Deployment")
POD = Resource("v1", "pods", "Pod")
EVENT = Resource("v1", "events", "Event")
HTTP_ROUTE = Resource("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute")
SCALED_OBJECT = Resource("keda.sh/v1alpha1", "scaledobjects", "ScaledObject")
GATEWAY = Resource("gateway.networking.k8s.io/v1", "gateways", "Gateway")
CONFIG_MAP = Resource("v1", "configmaps", "ConfigMap")
LEASE = Resource("coordination.k8s.io/v1", "leases", "Lease")
AUTOSCALER = Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")


class Cluster:
    """One API server, as one user.

    Args:
        client: a kubernetes.client.ApiClient.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.server = str(client.configuration.host)

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """One object.

        Raises:
            ClusterError: NotFound, Forbidden, or the server cannot be reached.
        """
        return self._call("GET", "get", resource, namespace, name)

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """One object, None where it is not there (or where its kind is not)."""
        try:
            return self.get(resource, namespace, name)
        except NotFound:
            return None

    def find_all(self, resource: Resource, namespace: str, **query: str) -> list[Object]:
        """All objects of a namespace; labelSelector= and fieldSelector= narrow it."""
        found = self._call("GET", "list", resource, namespace, None, query)
        return list(found.get("items") or [])

    def apply(
        self,
        resource: Resource,
        body: Object,
        manager: str,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply of the fields in `body`; `dry_run`: only what would come of it.

        Raises:
            Conflict: another manager owns one of them with another value, and not `force`.
            ClusterError: anything else that the server refuses.
        """
        metadata = body["metadata"]
        query = {
            "fieldManager": manager,
            "fieldValidation": "Strict",
            "force": str(force).lower(),
        } | ({"dryRun": "All"} if dry_run else {})
        return self._call(
            "PATCH", "patch", resource, metadata["namespace"], metadata["name"], query, body
        )

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Ask for so many pods of a Deployment."""
        asked = Asked(
            "patch", "Deployment", "deployments/scale.apps", namespace, deployment, self.server
        )
        path = f"{DEPLOYMENT.root}/namespaces/{namespace}/deployments/{deployment}/scale"
        body = {"spec": {"replicas": replicas}}
        self._send("PATCH", path, asked, {}, body, "object", content_type=_MERGE)

    def create(self, resource: Resource, body: Object) -> Object:
        """A new object.

        Raises:
            Changed: there is one of its name. ClusterError: anything else that is refused.
        """
        return self._call("POST", "create", resource, body["metadata"]["namespace"], None, {}, body)

    def replace(self, resource: Resource, body: Object) -> Object:
        """The whole object, if it is still as it was read (metadata.resourceVersion).

        Raises:
            Changed: it is not. ClusterError: anything else that is refused.
        """
        metadata = body["metadata"]
        return self._call(
            "PUT", "update", resource, metadata["namespace"], metadata["name"], {}, body
        )

    def delete(self, resource: Resource, thing: Object) -> None:
        """This very object, not one that has got its name since; nothing where it is gone."""
        metadata = thing["metadata"]
        body = {"preconditions": {"uid": metadata["uid"]}}
        with contextlib.suppress(NotFound):
            self._call(
                "DELETE", "delete", resource, metadata["namespace"], metadata["name"], {}, body
            )

    def proxy(
        self,
        method: str,
        namespace: str,
        pod: str,
        port: int,
        path: str,
        body: Any = None,
        timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> Any:
        """What a pod answers at one of its ports, JSON to JSON; the API server passes it on.

        Raises:
            PodRefused: the pod answers by an error. ClusterError: it is not reached.
        """
        verb = "get" if method == "GET" else "create"
        asked = Asked(verb, "Pod", "pods/proxy", namespace, pod, self.server)
        url = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path.lstrip('/')}"
        path, _, query = url.partition("?")
        given = dict(part.split("=", 1) for part in query.split("&") if part)
        return self._send(method, path, asked, given, body, "object", timeout_s)

    def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int = 12
    ) -> list[str]:
        """The last lines that a container wrote; none where there are none to be had."""
        query = {"container": container, "tailLines": str(lines)}
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        asked = Asked("get", "Pod", "pods/log", namespace, pod, self.server)
        with contextlib.suppress(ClusterError):
            text = self._send("GET", path, asked, query, None, "str")
            return [line for line in str(text).splitlines() if line.strip()][-lines:]
        return []

    def namespace_exists(self, namespace: str) -> bool | None:
        """None where the caller may not know: namespaces are no business of a namespace's Role."""
        asked = Asked("get", "Namespace", "namespaces", namespace, namespace, self.server)
        try:
            self._send("GET", f"/api/v1/namespaces/{namespace}", asked, {}, None, "object")
        except NotFound:
            return False
        except ClusterError:
            return None
        return True

    def _call(
        self,
        method: str,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str | None,
        query: dict[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        path = f"{resource.root}/namespaces/{namespace}/{resource.plural}"
        path += f"/{name}" if name else ""
        asked = Asked(verb, resource.kind, resource.full_plural, namespace, name, self.server)
        answer: Object = self._send(method, path, asked, query or {}, body, "object")
        return answer

    def _send(
        self,
        method: str,
        path: str,
        asked: Asked,
        query: dict[str, str],
        body: Object | None,
        answer: str,
        timeout_s: float = _REQUEST_TIMEOUT_S,
        content_type: str | None = None,
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json"} if answer == "object" else {"Accept": "*/*"}
        if body is not None:
            headers["Content-Type"] = content_type or _BODY.get(method, "application/json")
        try:
            return self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                response_type=answer,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                # To connect, and to wait for bytes. A float alone the client ignores.
                _request_timeout=(timeout_s, timeout_s),
            )
        except ApiException as error:
            if not error.status:
                raise _unreachable(self.server, error.reason) from error
            text = _text(error.body)
            if asked.plural == "pods/proxy" and not is_status(text):
                raise PodRefused(asked, int(error.status), text) from error
            raise explain(asked, int(error.status), text) from error
        except (HTTPError, OSError) as error:
            raise _unreachable(self.server, error) from error


def connect() -> Cluster:
    """By KUBECONFIG or ~/.kube/config, else as the pod that this runs in.

    Raises:
        ClusterError: neither is there, or the kubeconfig cannot be read.
    """
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    configuration = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            # Named here, since the library looks at the variable only when it is imported.
            named = os.environ.get("KUBECONFIG") or None
            config.load_kube_config(named, client_configuration=configuration)
    except (ConfigException, OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"no Kubernetes cluster to speak to ({error}): set KUBECONFIG to a readable "
            "kubeconfig, or run this in a pod with a ServiceAccount"
        ) from error
    configuration.retries = False  # they would be silent and log lines; our loops ask again
    return Cluster(client.ApiClient(configuration))


def _unreachable(server: str, error: object) -> Away:
    reason = getattr(error, "reason", None) or error
    return Away(
        f"the Kubernetes API at {server} cannot be reached ({reason}): is the cluster up, is "
        "KUBECONFIG the right one, and is there a way to it from here?"
    )


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
