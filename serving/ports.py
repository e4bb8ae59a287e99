"""TCP ports of this machine: free ones, and who holds a taken one."""

import errno
import socket
from pathlib import Path

from recommender.errors import KuberecError
from serving.process import command_line

LOCAL = "127.0.0.1"


class PortTaken(KuberecError):
    """A fixed port that somebody else listens on."""


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOCAL, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def require_free(host: str, port: int, setting: str) -> None:
    """Raise unless host:port can be listened on; `setting` is the config key that chooses another.

    Raises:
        PortTaken: naming the process that holds the port, where the system tells.
        KuberecError: `host` is no address of this machine, or the port needs privileges.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # Connections of a former server that linger in TIME_WAIT do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} is taken by {_holder_name(port)}; choose another with {setting}"
            ) from error
        raise KuberecError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with {setting}"
        ) from error


def port_holder(port: int) -> int | None:
    """The pid that listens on `port`, or None if there is none or it is hidden from this user."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue  # ended meanwhile, or another user's
    return None


def _holder_name(port: int) -> str:
    pid = port_holder(port)
    if pid is None:
        return "a process of another user"
    command = command_line(pid)
    return f"pid {pid} ({Path(command[0]).name})" if command else f"pid {pid}"
