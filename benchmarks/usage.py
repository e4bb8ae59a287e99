"""What a process and its session use of the machine: memory, processor time."""

import os
from collections.abc import Iterator
from pathlib import Path

from serving.process import ProcessRef

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def memory_mib(leader: ProcessRef) -> dict[str, float]:
    """PSS and RSS in MiB: PSS shares out what processes share, RSS counts it for each."""
    total = {"pss_mib": 0.0, "rss_mib": 0.0}
    for entry, _ in _session(leader):
        for line in (entry / "smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            key = f"{name.rstrip(':').lower()}_mib"
            if key in total:
                total[key] += int(value) / 1024
    return total


def processor_s(leader: ProcessRef) -> float:
    """Seconds of processor time since the processes started."""
    return sum(int(fields[11]) + int(fields[12]) for _, fields in _session(leader)) / _TICKS_PER_S


def _session(leader: ProcessRef) -> Iterator[tuple[Path, list[str]]]:
    """Members' folders in /proc, with the fields of `stat` from the third on."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended just now
            if int(fields[3]) == leader.pid:
                yield entry, fields
