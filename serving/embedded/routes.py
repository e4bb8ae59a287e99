"""Envoy's configuration as data: the fixed door, and the routes and clusters that change.

Envoy watches the two changing files and takes over what is renamed onto them, without losing a
request (filesystem subscriptions of xDS v3).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from serving.ports import LOCAL

DOOR = "door"
VERSION_HEADER = "x-kuberec-version"
_TYPES = "type.googleapis.com/envoy"
_MANAGER = f"{_TYPES}.extensions.filters.network.http_connection_manager"


class Backend(NamedTuple):
    """Ports of one version's server on this machine."""

    http_port: int
    grpc_port: int


def bootstrap(
    host: str, port: int, admin_port: int, routes: Path, clusters: Path
) -> dict[str, Any]:
    """What Envoy is started with: one listener for REST and gRPC, everything else from files."""
    manager = {
        "@type": f"{_MANAGER}.v3.HttpConnectionManager",
        "stat_prefix": DOOR,
        "codec_type": "AUTO",  # HTTP/1 and HTTP/2 on the same port, told apart by the first bytes
        "rds": {"route_config_name": DOOR, "config_source": _from_file(routes)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": DOOR,
        "address": _address(host, port),
        "enable_reuse_port": False,  # a second Envoy on this port must fail, not share it
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    return {
        "node": {"id": "kuberec", "cluster": "kuberec"},
        "admin": {"address": _address(LOCAL, admin_port)},
        "dynamic_resources": {"cds_config": _from_file(clusters)},
        "static_resources": {"listeners": [listener]},
    }


def clusters(version_info: str, backends: Mapping[str, Backend]) -> dict[str, Any]:
    """Two clusters a version: one speaks HTTP/1 to Triton's REST port, one HTTP/2 to its gRPC."""
    resources = []
    for version, backend in backends.items():
        resources.append(_cluster(f"{version}-http", backend.http_port, "http_protocol_options"))
        resources.append(_cluster(f"{version}-grpc", backend.grpc_port, "http2_protocol_options"))
    return {"version_info": version_info, "resources": resources}


def routes(version_info: str, version: str | None, timeout_s: float) -> dict[str, Any]:
    """All requests to `version`; with None, every request is told that nothing serves."""
    host: dict[str, Any] = {"name": "all", "domains": ["*"]}
    if version is None:
        text = "no model version is being served; start one with `kuberec serve`"
        host["routes"] = [
            {
                "match": {"prefix": "/"},
                "direct_response": {"status": 503, "body": {"inline_string": text}},
            }
        ]
    else:
        host["routes"] = [
            _route(f"{version}-grpc", {"prefix": "/", "grpc": {}}, timeout_s),
            _route(f"{version}-http", {"prefix": "/"}, timeout_s),
        ]
        host["response_headers_to_add"] = [
            {
                "header": {"key": VERSION_HEADER, "value": version},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ]
    resource = {
        "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
        "name": DOOR,
        "virtual_hosts": [host],
    }
    return {"version_info": version_info, "resources": [resource]}


def _route(cluster: str, match: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    return {
        "match": match,
        "route": {
            "cluster": cluster,
            "timeout": f"{timeout_s:.3f}s",
            # Safe to repeat: none of these has reached the model's answer yet, and inference
            # changes nothing.
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 2,
            },
        },
    }


def _cluster(name: str, port: int, protocol: str) -> dict[str, Any]:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": f"{_TYPES}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(LOCAL, port)}}]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {protocol: {}},
            }
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _from_file(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
