"""Detached processes: started with their log in a file, recognised again later, stopped whole.

A pid alone is reused by the system: a process is remembered by its pid and its start time.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

# Children of this process must be waited for, or they stay as zombies; those of others are init's.
_children: dict[int, subprocess.Popen[bytes]] = {}


class ProcessRef(BaseModel):
    """A process: its pid, and its start time in clock ticks since boot."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: int


class _Stat(NamedTuple):
    state: str
    session: int
    started: int


def spawn(command: Sequence[str], log: Path, env: Mapping[str, str]) -> ProcessRef:
    """Start `command` in a session of its own, so that it outlives this process and its terminal.

    Its output is appended to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
        )
    _children[child.pid] = child
    stat = _stat(child.pid)
    return ProcessRef(pid=child.pid, started=stat.started if stat else 0)


def this_process() -> ProcessRef:
    """The process that asks."""
    stat = _stat(os.getpid())
    return ProcessRef(pid=os.getpid(), started=stat.started if stat else 0)


def alive(process: ProcessRef) -> bool:
    """Whether this very process runs: not a zombie, and not another one of the same pid."""
    if process.pid in _children and _children[process.pid].poll() is not None:
        del _children[process.pid]
    stat = _stat(process.pid)
    return stat is not None and stat.started == process.started and stat.state not in "ZX"


def stop(process: ProcessRef, timeout_s: float = 10.0) -> None:
    """End a process started by `spawn`, and all of its session: SIGTERM, later SIGKILL."""
    _signal(process, signal.SIGTERM)
    wait_until_gone(process, timeout_s)
    # What is left of its session: the process itself, or children that outlived it. A session's
    # number is not given again while it has members, so these are no strangers.
    for member in _session(process):
        _signal(member, signal.SIGKILL)
        wait_until_gone(member, 5.0)
    alive(process)  # reaps it


def wait_until_gone(process: ProcessRef, timeout_s: float) -> bool:
    """Wait for a process to end; False after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def find(program: str, argument: str) -> list[tuple[ProcessRef, list[str]]]:
    """Running processes whose program is named `program` and that have `argument` as one of theirs.

    Returns (process, its command line) pairs.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            command = command_line(int(entry.name))
            stat = _stat(int(entry.name))
            named = bool(command) and Path(command[0]).name == program
            if stat and named and argument in command[1:] and stat.state not in "ZX":
                found.append((ProcessRef(pid=int(entry.name), started=stat.started), command))
    return found


def command_line(pid: int) -> list[str]:
    """A process's arguments; empty if it is gone or not ours to see."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.split(b"\0")[:-1]]


def log_tail(log: Path, lines: int = 15, width: int = 240) -> str:
    """The last lines of a log, indented, for an error message."""
    if not log.is_file():
        return "  (no log)"
    text = log.read_bytes()[-64_000:].decode("utf-8", "replace")
    return "\n".join("  " + line[:width] for line in text.splitlines()[-lines:]) or "  (empty log)"


def keep_earlier(log: Path) -> None:
    """Keep the log of a process that ended, one generation of it: it says why it ended."""
    if log.is_file():
        log.replace(log.with_name(f"{log.name}.1"))


def _session(process: ProcessRef) -> list[ProcessRef]:
    """Living members of the session that `process` led."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        stat = _stat(int(entry.name))
        if stat and stat.session == process.pid and stat.state not in "ZX":
            if int(entry.name) == process.pid and stat.started != process.started:
                return []  # the number is somebody else's session by now
            members.append(ProcessRef(pid=int(entry.name), started=stat.started))
    return [member for member in members if member.started >= process.started]


def _signal(process: ProcessRef, number: signal.Signals) -> None:
    if alive(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return  # it ended by itself, just now


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    return _Stat(state=fields[0], session=int(fields[3]), started=int(fields[19]))
