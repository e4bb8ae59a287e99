"""Envoy's configuration that changes: which version gets which share, and where versions are.

Envoy watches both files and takes over what is renamed onto them, without losing a request
(filesystem subscriptions of xDS v3). The fixed part is in `door.py`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from serving.ports import LOCAL
from serving.triton.repository import ENSEMBLE

DOOR = "door"
VERSION_HEADER = "x-kuberec-version"
TYPES = "type.googleapis.com/envoy"
GRPC_SERVICE, GRPC_METHOD = "inference.GRPCInferenceService", "ModelInfer"
_GRPC = f"/{GRPC_SERVICE}/"
_HERE = (
    f"this is not served here; the model is '{ENSEMBLE}': POST /v2/models/{ENSEMBLE}/infer (REST), "
    "or inference.GRPCInferenceService/ModelInfer (gRPC)"
)
_NOTHING = "no model version is being served; start one with `kuberec serve`"
# Requests of one version that may be under way, or wait for a connection, before further ones
# are refused at once: far beyond what one replica answers within a second on any machine.
_MAX_REQUESTS = 1024


# Safe to repeat: an inference changes nothing, and of these requests no byte of an answer has come.
_RETRIES = "connect-failure,refused-stream,reset"
# What the canary says of itself is not passed on while stable can do better: 5xx; for gRPC, where
# every HTTP status is 200, the statuses of the same meaning.
_RETRIES_OF_A_CANARY = f"{_RETRIES},5xx,internal,unavailable,resource-exhausted,deadline-exceeded"
# A canary that hangs: so long it is waited for, of all the time that a request may take, and no
# longer; stable has the rest.
_TRY_OF_A_CANARY = 1 / 3
_LONGEST_TRY_OF_A_CANARY_S = 5.0
_METADATA = "kuberec"  # of an address: which version is there
_PRIORITIES = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"


class Backend(NamedTuple):
    """Ports of one version's transformer on this machine."""

    http_port: int
    grpc_port: int


def cluster_names(version: str) -> tuple[str, str]:
    """Of a version's clusters, for REST and for gRPC: also the names of Envoy's counters."""
    return f"{version}-http", f"{version}-grpc"


def clusters(
    version_info: str, backends: Mapping[str, Backend], stable: str | None
) -> dict[str, Any]:
    """Two clusters a version: one speaks HTTP/1 to its REST port, one HTTP/2 to its gRPC port.

    Args:
        stable: the current version. Every other one has it as second priority, where a request
            goes that the other one does not answer; never the other way round.
    """
    resources = []
    for version, backend in backends.items():
        places = {version: backend}
        if stable in backends and stable is not None:
            places.setdefault(stable, backends[stable])
        rest, grpc = cluster_names(version)
        rest_ports = {name: each.http_port for name, each in places.items()}
        grpc_ports = {name: each.grpc_port for name, each in places.items()}
        resources.append(_cluster(rest, rest_ports, "http_protocol_options"))
        resources.append(_cluster(grpc, grpc_ports, "http2_protocol_options"))
    return {"version_info": version_info, "resources": resources}


def routes(version_info: str, weights: Mapping[str, int], timeout_s: float) -> dict[str, Any]:
    """Inference requests to versions by weight; every other path is told what there is.

    Args:
        weights: percent by version, 100 in sum, the current version first; empty: nothing serves,
            and requests are told so.
        timeout_s: longest that a request may take; gRPC clients may send a shorter deadline.
    """
    if not weights:
        served = [_refuse({"prefix": "/"}, 503, _NOTHING)]
    else:
        deadline = f"{timeout_s:.3f}s"
        served = [
            # No version is loaded or unloaded from outside, whatever the server behind can do.
            _refuse({"prefix": f"{_GRPC}RepositoryModel"}, 404, _HERE),
            _refuse({"path_separated_prefix": "/v2/repository"}, 404, _HERE),
            *_shared(
                {"prefix": _GRPC, "grpc": {}},
                "grpc",
                weights,
                timeout_s,
                # Unlike a timeout, this is told to clients as DEADLINE_EXCEEDED.
                timeout="0s",
                max_stream_duration={
                    "max_stream_duration": deadline,
                    "grpc_timeout_header_max": deadline,
                },
            ),
            *_shared(
                {"path_separated_prefix": "/v2"}, "http", weights, timeout_s, timeout=deadline
            ),
            _refuse({"prefix": "/"}, 404, _HERE),
        ]
    resource = {
        "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
        "name": DOOR,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": served}],
    }
    return {"version_info": version_info, "resources": [resource]}


def published_shares(written: Mapping[str, Any]) -> dict[str, int]:
    """Percent by version of routes that `routes` has made; empty: nothing serves."""
    (resource,) = written["resources"]
    (host,) = resource["virtual_hosts"]
    shares: dict[str, int] = {}
    for found in host["routes"]:
        version, _, protocol = found.get("route", {}).get("cluster", "").rpartition("-")
        if protocol == "http":
            fraction = found["match"].get("runtime_fraction", {}).get("default_value")
            below = fraction["numerator"] if fraction else 100
            shares[version] = below - sum(shares.values())
    return shares


def _shared(
    match: dict[str, Any],
    protocol: str,
    weights: Mapping[str, int],
    timeout_s: float,
    **limits: Any,
) -> list[dict[str, Any]]:
    """A route for each version; of these the first that a request's random number is below.

    Routes of their own, where one with weighted clusters would do for the shares alone, because of
    what differs: beside the current version, failures are answered by the current one.
    """
    current, *others = weights
    made, below = [], 0
    for version in others:
        below += weights[version]
        share = {"default_value": {"numerator": below, "denominator": "HUNDRED"}}
        longest_s = min(timeout_s * _TRY_OF_A_CANARY, _LONGEST_TRY_OF_A_CANARY_S)
        retries = {"retry_on": _RETRIES_OF_A_CANARY, "per_try_timeout": f"{longest_s:.3f}s"}
        made.append(
            _route(match | {"runtime_fraction": share}, f"{version}-{protocol}", retries, limits)
        )
    return [*made, _route(match, f"{current}-{protocol}", {"retry_on": _RETRIES}, limits)]


def _route(
    match: dict[str, Any], cluster: str, retries: dict[str, Any], limits: dict[str, Any]
) -> dict[str, Any]:
    return {
        "match": match,
        # Of whoever answered in the end, which may be the current version in a canary's place.
        "response_headers_to_add": [
            _header(VERSION_HEADER, f"%UPSTREAM_METADATA({_METADATA}:version)%")
        ],
        "route": limits
        | {
            "cluster": cluster,
            "idle_timeout": "0s",  # the limits above are enough, also for a slow answer
            "retry_policy": {
                **retries,
                "num_retries": 3,
                "retry_back_off": {"base_interval": "0.050s", "max_interval": "0.500s"},
                # First where it has not been yet.
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": f"type.googleapis.com/{_PRIORITIES}",
                        "update_frequency": 1,
                    },
                },
            },
        },
    }


def _header(name: str, value: str) -> dict[str, Any]:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _refuse(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
    }


def _cluster(name: str, ports: Mapping[str, int], protocol: str) -> dict[str, Any]:
    """At the ports of one version, and, of lower priority, of those after it."""
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": f"{TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MAX_REQUESTS,
                    "max_pending_requests": _MAX_REQUESTS,
                    "max_requests": _MAX_REQUESTS,
                    # All of them, where there is somebody else to go to.
                    "max_retries": _MAX_REQUESTS if len(ports) > 1 else _MAX_REQUESTS // 16,
                    "track_remaining": True,
                }
            ]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "priority": priority,
                    "lb_endpoints": [
                        {
                            "endpoint": {"address": address(LOCAL, port)},
                            "metadata": {"filter_metadata": {_METADATA: {"version": version}}},
                        }
                    ],
                }
                for priority, (version, port) in enumerate(ports.items())
            ],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                # Shorter than the transformer keeps a connection, which it then never cuts off
                # under a request.
                "common_http_protocol_options": {"idle_timeout": "60s"},
                "explicit_http_config": {protocol: {}},
            }
        },
    }


def address(host: str, port: int) -> dict[str, Any]:
    """A socket address as Envoy writes it."""
    return {"socket_address": {"address": host, "port_value": port}}
