"""The machine that gave a figure, and the file it is kept in."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recommender.files import write_json

RESULTS = Path(__file__).parent / "results"


def describe(packages: tuple[str, ...]) -> dict[str, Any]:
    """Processor, cores, memory, and the versions of what was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def keep(
    name: str, packages: tuple[str, ...], figures: dict[str, Any], folder: Path = RESULTS
) -> Path:
    """Write <name>.json, by default into results/."""
    path = folder / f"{name}.json"
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"measured": moment, "machine": describe(packages), "figures": figures})
    return path
