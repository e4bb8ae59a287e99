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
_GRPC = "/inference.GRPCInferenceService/"
_HERE = (
    f"this is not served here; the model is '{ENSEMBLE}': POST /v2/models/{ENSEMBLE}/infer (REST), "
    "or inference.GRPCInferenceService/ModelInfer (gRPC)"
)
_NOTHING = "no model version is being served; start one with `kuberec serve`"
# Requests of one version that may be under way, or wait for a connection, before further ones
# are refused at once: far beyond what one replica answers within a second on any machine.
_MAX_REQUESTS = 1024


class Backend(NamedTuple):
    """Ports of one version's transformer on this machine."""

    http_port: int
    grpc_port: int


def clusters(version_info: str, backends: Mapping[str, Backend]) -> dict[str, Any]:
    """Two clusters a version: one speaks HTTP/1 to its REST port, one HTTP/2 to its gRPC port."""
    resources = []
    for version, backend in backends.items():
        resources.append(_cluster(f"{version}-http", backend.http_port, "http_protocol_options"))
        resources.append(_cluster(f"{version}-grpc", backend.grpc_port, "http2_protocol_options"))
    return {"version_info": version_info, "resources": resources}


def routes(version_info: str, weights: Mapping[str, int], timeout_s: float) -> dict[str, Any]:
    """Inference requests to versions by weight; every other path is told what there is.

    Args:
        weights: share by version, of any sum above 0; empty: nothing serves, and requests are
            told so.
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
            _route(
                {"prefix": _GRPC, "grpc": {}},
                "grpc",
                weights,
                # Unlike a timeout, this is told to clients as DEADLINE_EXCEEDED.
                timeout="0s",
                max_stream_duration={
                    "max_stream_duration": deadline,
                    "grpc_timeout_header_max": deadline,
                },
            ),
            _route({"path_separated_prefix": "/v2"}, "http", weights, timeout=deadline),
            _refuse({"prefix": "/"}, 404, _HERE),
        ]
    resource = {
        "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
        "name": DOOR,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": served}],
    }
    return {"version_info": version_info, "resources": [resource]}


def _route(
    match: dict[str, Any], protocol: str, weights: Mapping[str, int], **limits: Any
) -> dict[str, Any]:
    shares = [
        {
            "name": f"{version}-{protocol}",
            "weight": weight,
            "response_headers_to_add": [
                {
                    "header": {"key": VERSION_HEADER, "value": version},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        }
        for version, weight in weights.items()
    ]
    return {
        "match": match,
        "route": limits
        | {
            "weighted_clusters": {"clusters": shares},
            "idle_timeout": "0s",  # the limits above are enough, also for a slow answer
            "retry_policy": {
                # Safe to repeat, and nothing but this: an inference changes nothing, and of these
                # requests no byte of an answer has come.
                "retry_on": "connect-failure,refused-stream,reset",
                "num_retries": 3,
                "retry_back_off": {"base_interval": "0.050s", "max_interval": "0.500s"},
            },
        },
    }


def _refuse(match: dict[str, Any], status: int, text: str) -> dict[str, Any]:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
    }


def _cluster(name: str, port: int, protocol: str) -> dict[str, Any]:
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
                    "max_retries": _MAX_REQUESTS // 16,
                    "track_remaining": True,
                }
            ]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(LOCAL, port)}}]}],
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
