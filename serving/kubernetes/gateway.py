"""The endpoint as its clients reach it: the gateway's address, the host name, who asks."""

import os
import time
from collections.abc import Callable

from recommender.errors import KuberecError
from serving.client import Door, RecommendError
from serving.kubernetes.api import GATEWAY, HTTP_ROUTE, Cluster, Object
from serving.kubernetes.errors import NotFound
from serving.kubernetes.shares import shares
from serving.settings import KubernetesConfig

API_KEY_VARIABLE, TOKEN_VARIABLE = "KUBEREC_API_KEY", "KUBEREC_TOKEN"
API_KEY_HEADER = "x-api-key"
_IN_A_ROW = 5  # answers by the new version alone, until the gateway counts as switched


class GatewayError(KuberecError):
    """The endpoint is ready, but not reached through the gateway."""


def find_door(cluster: Cluster, config: KubernetesConfig) -> Door:
    """Where the gateway is, and by which name it knows the endpoint.

    Raises:
        GatewayError: there is no route, or the gateway has no address.
        ClusterError: the API refuses.
    """
    name, namespace = config.inference_service, config.namespace
    try:
        route = cluster.get(HTTP_ROUTE, namespace, name)
    except NotFound as error:
        raise GatewayError(
            f"KServe made no HTTPRoute '{name}' in namespace '{namespace}' ({error}): KServe's "
            "ConfigMap 'inferenceservice-config' must have ingress.enableGatewayApi: true, as in "
            "manifests/platform"
        ) from error
    hosts = route["spec"].get("hostnames") or []
    if not hosts:
        raise GatewayError(f"HTTPRoute '{name}' in namespace '{namespace}' names no host")
    if config.gateway is not None:
        secure = config.gateway.startswith("https://")
        address = config.gateway.rpartition("://")[2]
        if ":" not in address:
            address += ":443" if secure else ":80"
        return Door(address, hosts[0], credentials(), secure)
    parent = (route["spec"].get("parentRefs") or [{}])[0]
    where = parent.get("namespace") or namespace
    gateway = cluster.get(GATEWAY, where, str(parent.get("name")))
    addresses = (gateway.get("status") or {}).get("addresses") or []
    if not addresses:
        raise GatewayError(
            f"Gateway '{parent.get('name')}' in namespace '{where}' has no address yet: look at "
            "its Service (LoadBalancer without a provider?), or name one that works from here "
            "(serving.kubernetes.gateway, `kuberec deploy --gateway HOST:PORT`)"
        )
    listener = _listener(gateway, parent.get("sectionName"))
    secure = listener["protocol"] in ("HTTPS", "TLS")
    return Door(f"{addresses[0]['value']}:{listener['port']}", hosts[0], credentials(), secure)


def _listener(gateway: Object, section: str | None) -> Object:
    listeners: list[Object] = gateway["spec"]["listeners"]
    for listener in listeners:
        if listener["name"] == section or (section is None and listener["protocol"] == "HTTP"):
            return listener
    return listeners[0]


def credentials() -> dict[str, str]:
    """What to show a gateway that asks: an API key or a bearer token of the environment."""
    headers = {}
    if key := os.environ.get(API_KEY_VARIABLE):
        headers[API_KEY_HEADER] = key
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["authorization"] = f"Bearer {token}"
    return headers


def wait_until_alone(cluster: Cluster, config: KubernetesConfig, slot: str | None) -> None:
    """Until the clients' route names that slot and no other.

    Raises:
        GatewayError: it goes on to name another.
    """
    name, deadline = config.inference_service, time.monotonic() + config.answer_timeout_s
    while True:
        found = shares(cluster, config.namespace, name, slot, slot)
        if found.alone:
            return
        if time.monotonic() > deadline:
            raise GatewayError(
                f"HTTPRoute '{name}' does not lead to slot {slot} alone after "
                f"{config.answer_timeout_s:g} s{found.behind and f'; {found.behind}'}"
            )
        time.sleep(0.5)


def wait_for_version(
    door: Door, version: str, timeout_s: float, say: Callable[[str], None]
) -> None:
    """Until only `version` answers at the gateway, several times in a row.

    Raises:
        GatewayError: it did not within `timeout_s`, saying what answered instead.
    """
    deadline = time.monotonic() + timeout_s
    found, told, row = "nothing", "", 0
    with door.client(5.0) as client:
        while row < _IN_A_ROW:
            try:
                found = f"version {client.recommend(history=[]).version}"
            except RecommendError as error:
                found = str(error)
                if error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                    raise GatewayError(
                        f"the gateway at {door.address} does not let this rollout ask "
                        f"'{door.host}' ({error.code}): set {API_KEY_VARIABLE} or "
                        f"{TOKEN_VARIABLE} to what its SecurityPolicy accepts"
                    ) from error
            row = row + 1 if found == f"version {version}" else 0
            if row:
                continue
            if time.monotonic() > deadline:
                raise GatewayError(
                    f"the pods are ready, but the gateway at {door.address} does not answer by "
                    f"version {version} for host '{door.host}' after {timeout_s:g} s; last: "
                    f"{found}. Is that the way to the gateway from here "
                    "(serving.kubernetes.gateway)? `kubectl describe httproute` tells what it knows"
                )
            if found != told:
                say(f"waiting for the gateway: {found}")
                told = found
            time.sleep(0.5)
