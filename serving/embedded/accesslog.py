"""The access log's size: rotated by renaming, after which Envoy opens it anew."""

import http.client
from pathlib import Path

from serving.ports import LOCAL

MAX_BYTES = 64 * 2**20
KEPT = 3


def rotate(log: Path, admin_port: int | None, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> bool:
    """Move a log beyond `max_bytes` to `<name>.1`, older ones on to .2, .3 …; True if it was moved.

    Args:
        admin_port: of an Envoy that writes to it; nothing is lost, it goes on in the moved file
            until it is told.
        kept: older files kept; so it all takes `max_bytes` times `kept` + 1, and what is written
            between two calls.
    """
    if not log.is_file() or log.stat().st_size <= max_bytes:
        return False
    for number in range(kept, 1, -1):
        newer = log.with_name(f"{log.name}.{number - 1}")
        if newer.is_file():
            newer.replace(log.with_name(f"{log.name}.{number}"))
    log.replace(log.with_name(f"{log.name}.1"))
    if admin_port is not None:
        _reopen(admin_port)
    return True


def _reopen(admin_port: int) -> None:
    connection = http.client.HTTPConnection(LOCAL, admin_port, timeout=2.0)
    try:
        connection.request("POST", "/reopen_logs")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return  # it ended, and opens the log anew when it starts
    finally:
        connection.close()
