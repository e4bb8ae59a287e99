"""Envoy's configuration that stays: the listener, its limits, its access log, its own answers."""

from pathlib import Path
from typing import Any

from serving.embedded.routes import DOOR, GRPC_METHOD, GRPC_SERVICE, TYPES, address
from serving.ports import LOCAL

_MANAGER = f"{TYPES}.extensions.filters.network.http_connection_manager.v3"
_MAX_CONNECTIONS = 10_000
# Of Envoy's admin pages those that show, and the one that `accesslog` asks for. The others end or
# change the endpoint, and a web page may post to this machine's ports.
_ADMIN_PAGES = (
    r"/(|help|ready|reopen_logs|stats|stats/prometheus|clusters|listeners|server_info|config_dump)"
    r"(\?.*)?"
)
# Upper ends in milliseconds of the buckets of `upstream_rq_time`, which Envoy measures in whole
# ones: what a canary is compared by wants them a tenth apart where requests usually are.
_BUCKETS_MS = (
    *(0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 29, 32, 35),
    *(38, 42, 46, 50, 55, 60, 66, 72, 79, 87, 95, 100, 110, 120, 130, 140, 150, 170, 190, 210, 230),
    *(250, 300, 350, 400, 500, 600, 700, 850, 1000, 1250, 1500, 2000, 2500, 3000, 4000, 5000),
    *(7500, 10_000),
)
_NOBODY = {"address_prefix": "255.255.255.255", "prefix_len": 32}
# Of a request, nothing that says who asked for what: no body, no query, no address, no user agent.
_ACCESS_LOG = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD):16%",
    "path": "%PATH(NQ):128%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "version": "%RESP(X-KUBEREC-VERSION)%",
    "request_id": "%REQ(X-REQUEST-ID):128%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
}
# What Envoy itself answers when it has no answer from a transformer, by its response flag:
# https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
_AWAY = "the model version that serves does not answer just now; try again in a few seconds"
_LATE = "the request took longer than its deadline, or than serving.request_timeout_s"
_OWN_ANSWERS = {
    ("UF", "UC", "UH", "UR", "LR", "URX", "NC"): _AWAY,
    ("UO",): "too many requests are under way; try again later",
    ("UT", "SI", "DT"): _LATE,
}


def bootstrap(
    host: str, port: int, admin_port: int, routes: Path, clusters: Path, access_log: Path
) -> dict[str, Any]:
    """What Envoy is started with: one listener for REST and gRPC, everything else from files."""
    listener = {
        "name": DOOR,
        "address": address(host, port),
        "enable_reuse_port": False,  # a second Envoy on this port must fail, not share it
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _manager(routes, access_log),
                    }
                ]
            }
        ],
    }
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    limit = f"{TYPES}.extensions.resource_monitors.downstream_connections.v3"
    return {
        "node": {"id": "kuberec", "cluster": "kuberec"},
        "admin": {
            "address": address(LOCAL, admin_port),
            "allow_paths": [{"safe_regex": {"regex": _ADMIN_PAGES}}],
        },
        "stats_flush_interval": "1s",  # histograms show what came before the latest flush
        "stats_config": {
            "histogram_bucket_settings": [
                {
                    "match": {"safe_regex": {"regex": r"cluster\.[^.]+\.upstream_rq_time"}},
                    "buckets": list(_BUCKETS_MS),
                }
            ]
        },
        "dynamic_resources": {"cds_config": _from_file(clusters)},
        "static_resources": {"listeners": [listener]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": connections,
                    "typed_config": {
                        "@type": f"{limit}.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": _MAX_CONNECTIONS,
                    },
                }
            ]
        },
    }


def _manager(routes: Path, access_log: Path) -> dict[str, Any]:
    return {
        "@type": f"{_MANAGER}.HttpConnectionManager",
        "stat_prefix": DOOR,
        "codec_type": "AUTO",  # HTTP/1 and HTTP/2 on the same port, told apart by the first bytes
        "rds": {"route_config_name": DOOR, "config_source": _from_file(routes)},
        # Everybody is a stranger: headers that steer Envoy (x-envoy-…) are taken off requests.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [_NOBODY]},
        "skip_xff_append": True,
        # A request id that came with the request is kept as it is; otherwise one is made.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{TYPES}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
                "use_request_id_for_trace_sampling": False,
            }
        },
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {"idle_timeout": "3600s"},
        "request_headers_timeout": "10s",
        "request_timeout": "60s",  # to send a request; the answer has its own limit in the route
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{TYPES}.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(access_log),
                    "log_format": {"json_format": _ACCESS_LOG},
                },
            }
        ],
        "local_reply_config": _own_answers(),
        "http_filters": [
            # Counts gRPC's own statuses, by cluster: every one of them is HTTP 200.
            {
                "name": "envoy.filters.http.grpc_stats",
                "typed_config": {
                    "@type": f"{TYPES}.extensions.filters.http.grpc_stats.v3.FilterConfig",
                    "individual_method_stats_allowlist": {
                        "services": [{"name": GRPC_SERVICE, "method_names": [GRPC_METHOD]}]
                    },
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{TYPES}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
    }


def _own_answers() -> dict[str, Any]:
    """Envoy's own errors in the form of the others: {"error": …}, or a gRPC message."""
    grpc = {
        "header_filter": {
            "header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
        }
    }
    mappers = [
        {
            "filter": {"response_flag_filter": {"flags": list(flags)}},
            "body": {"inline_string": text},
        }
        for flags, text in _OWN_ANSWERS.items()
    ]
    mappers.append({"filter": _status_is(504), "body": {"inline_string": _LATE}})
    # Of the mappers only the first that fits is used: each once for gRPC, and once for REST.
    plain = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
    of_grpc = [
        each
        | {"filter": {"and_filter": {"filters": [grpc, each["filter"]]}}}
        | {"body_format_override": plain}
        for each in mappers
    ]
    malformed = {
        "filter": _status_is(400),
        "body_format_override": {
            "json_format": {"error": "malformed request: %RESPONSE_CODE_DETAILS%"}
        },
    }
    return {
        "mappers": [
            *of_grpc,
            *mappers,
            {"filter": grpc, "body_format_override": plain},
            malformed,
        ],
        "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
    }


def _status_is(code: int) -> dict[str, Any]:
    # Envoy wants a name under which the number could be changed while it runs; nobody does.
    value = {"default_value": code, "runtime_key": f"kuberec.status_{code}"}
    return {"status_code_filter": {"comparison": {"value": value}}}


def _from_file(path: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
