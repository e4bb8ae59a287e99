"""One connection to an endpoint: its address and how gRPC keeps it.

A channel holds one HTTP/2 connection for all requests, and makes it anew by itself when it breaks.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

_PORT = re.compile(r":\d+$")

OPTIONS = [
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is for the web, not for this
    # gRPC's own pause after a refused connection begins at 1 s and would outlast our retries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # despite its name: how long one attempt may take
    # A peer that vanished without a word is noticed while a request waits: by data that nobody
    # acknowledges (gRPC sets TCP_USER_TIMEOUT to the keepalive timeout), or by a ping. No pings
    # without requests: servers close connections that ping more often than every 5 minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]


Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]


def target(url: str) -> str:
    """host:port of an address with or without "http://" before and "/" behind."""
    host = url.rpartition("://")[2].rstrip("/")
    return f"{host}:443" if secure(url) and not _PORT.search(host) else host


def secure(url: str) -> bool:
    """Whether an address asks for TLS."""
    return url.startswith("https://")


def options(authority: str | None) -> list[tuple[str, Any]]:
    """A channel's, with the name to ask for where the address is only the way to it."""
    if authority is None:
        return list(OPTIONS)
    # Over TLS it is also the name that the server's certificate has to have.
    named = [("grpc.default_authority", authority)]
    return [*OPTIONS, *named]


def metadata(headers: Headers | None) -> list[tuple[str, str]]:
    """Headers as gRPC wants them; a function is asked each time, for tokens that expire."""
    given = headers() if callable(headers) else headers or {}
    return [(name.lower(), value) for name, value in given.items()]
