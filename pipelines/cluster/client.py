"""The door to a Kubeflow Pipelines host: its services, who we are there, and what its errors mean.

The generated client is used as it is: the one of Kubeflow's SDK prints as it goes, and asks for a
health page five times before it says that a token is wrong.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError

TOKEN_VARIABLE = "KFP_TOKEN"
TIMEOUT_S = (10, 60)  # to connect, to read


class HostError(KuberecError):
    """A Kubeflow Pipelines host that cannot be reached, or refuses."""


@dataclass(frozen=True)
class Door:
    """A host's services; every call to them belongs into `told`."""

    host: str
    namespace: str | None
    api: Any  # kfp_server_api.ApiClient
    pipelines: Any
    uploads: Any
    experiments: Any
    runs: Any
    recurring: Any

    @property
    def where(self) -> dict[str, str]:
        """The namespace as calls take it; not named where the host has but one."""
        return {"namespace": self.namespace} if self.namespace else {}

    def page(self, run_id: str, ui: str | None) -> str:
        """The run's page for a person's browser."""
        return f"{(ui or self.host).rstrip('/')}/#/runs/details/{run_id}"


def connect(host: str, namespace: str | None) -> Door:
    """The services of a host, with the token that is to be had.

    A bearer token comes from the variable KFP_TOKEN, or else from the volume that Kubeflow's
    profiles give to pods (audience pipelines.kubeflow.org); hosts without authentication need none.
    Certificates of an own authority: SSL_CERT_FILE.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own code
        import kfp_server_api as server
    if "://" not in host:
        raise HostError(f"--host '{host}': write it with http:// or https://")
    settings = server.Configuration(host=host.rstrip("/"))
    settings.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
    settings.retries = 2
    _identify(settings)
    api = server.ApiClient(settings)
    return Door(
        host.rstrip("/"),
        namespace,
        api,
        server.PipelineServiceApi(api),
        server.PipelineUploadServiceApi(api),
        server.ExperimentServiceApi(api),
        server.RunServiceApi(api),
        server.RecurringRunServiceApi(api),
    )


def _identify(settings: Any) -> None:
    from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH

    if token := os.environ.get(TOKEN_VARIABLE):
        settings.api_key["authorization"] = token
        settings.api_key_prefix["authorization"] = "Bearer"
        return
    path = Path(os.environ.get(KF_PIPELINES_SA_TOKEN_ENV) or KF_PIPELINES_SA_TOKEN_PATH)
    if path.is_file():  # the kubelet renews it, so it is read for each call
        settings.api_key["authorization"] = "read below"  # without one the client sends none
        settings.api_key_prefix["authorization"] = "Bearer"
        settings.refresh_api_key_hook = lambda each: each.api_key.update(
            authorization=path.read_text(encoding="utf-8").strip()
        )


@contextmanager
def told(door: Door, doing: str) -> Iterator[None]:
    """Turn what the client raises into one message that names host, action and next step.

    Args:
        doing: the action and its object, such as "create a run of pipeline 'shop'".

    Raises:
        HostError: the host cannot be reached or refuses.
    """
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status in (0, None):  # the client's name for a broken TLS connection
            raise unreachable(door.host, str(error.reason)) from error
        raise HostError(_refusal(door, doing, error)) from error
    except (HTTPError, OSError) as error:
        raise unreachable(door.host, _innermost(error)) from error


def _innermost(error: BaseException) -> str:
    """The cause at the ground of what urllib3 raises: refused, unknown name, no answer."""
    while isinstance(reason := getattr(error, "reason", None), BaseException):
        error = reason
    return str(error).rpartition(": ")[2] or type(error).__name__


def unreachable(host: str, why: str) -> HostError:
    """Nobody answers there, or not Kubeflow."""
    return HostError(
        f"cannot reach a Kubeflow Pipelines API at {host}: {why}. Forward its port with "
        "'kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888' and use "
        "--host http://127.0.0.1:8888"
    )


def _refusal(door: Door, doing: str, error: Any) -> str:
    where = f" in namespace '{door.namespace}'" if door.namespace else ""
    text = f"{door.host} refused to {doing}{where}: {error.status}, {message(error)}"
    hints = {
        401: f"The host asks who this is: put a token into {TOKEN_VARIABLE}, or a fresh one.",
        403: "This account may not do it: bind it to a role that may (Kubeflow's 'kubeflow-edit' "
        "in the namespace of the run), or name another --namespace.",
        404: "Is --host the API's address, not only the page's?",
    }
    if error.status == 400 and "namespace" in text.lower() and not door.namespace:
        hints[400] = "This host has many namespaces: name yours by --namespace."
    return " ".join([text.rstrip(".") + ".", hints.get(error.status, "")]).rstrip()


def message(error: Any) -> str:
    """What the server says, without its own chain of causes."""
    try:
        body = json.loads(error.body)
        text = body.get("message") or body.get("error_message") or body.get("error") or ""
    except (TypeError, ValueError, AttributeError):
        text = ""
    return str(text or error.reason).strip().splitlines()[0][:500]
