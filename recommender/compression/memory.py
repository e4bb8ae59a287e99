"""The memory that a ranker takes, of a fresh process: python -m recommender.compression.memory.

The process has imported its runtime before counting begins, so that what is counted is the
ranker's: its weights, what the runtime makes of them, and room for a batch of answers.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recommender.compression.rankers import open_ranker, warm_imports
from recommender.errors import KuberecError

BATCHES = (1, 32)
TIMES = 3
ROOT = Path(__file__).resolve().parents[2]


def memory_growth(place: Path, inputs: Sequence[np.ndarray], k: int) -> int:
    """Bytes that the resident memory of a fresh process grows by, at its highest.

    It opens the ranker at `place` and answers the first of `inputs`, in batches of 1 and 32.

    Raises:
        KuberecError: the process failed; its own words are in it.
    """
    rows = np.arange(max(BATCHES)) % len(inputs[0])
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "inputs.npz"
        np.savez(given, allow_pickle=False, **{str(i): each[rows] for i, each in enumerate(inputs)})
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, "-m", __spec__.name, str(place), str(given), str(k)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise KuberecError(
            f"the memory of '{place}' could not be measured, its process ended with "
            f"{done.returncode}:\n{done.stderr.strip()[-2000:]}"
        )
    return int(json.loads(done.stdout.splitlines()[-1]))


def _main(place: Path, given: Path, k: int) -> None:
    warm_imports(place)
    with np.load(given, allow_pickle=False) as content:
        inputs = [content[str(i)] for i in range(len(content.files))]
    with contextlib.suppress(OSError):  # where it is not allowed, the peak of the imports counts
        Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    answer = open_ranker(place, k)
    for batch in BATCHES:
        for _ in range(TIMES):
            answer(*(each[:batch] for each in inputs))
    print(json.dumps(max(_status("VmHWM") - before, 0)))


def _status(name: str) -> int:
    """A figure of /proc/self/status in bytes; VmHWM is the highest VmRSS since clear_refs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KuberecError(f"/proc/self/status has no {name}: memory is measured on Linux alone")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
