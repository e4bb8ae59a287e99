"""What every step does around its work: progress lines, readable failures, an end with its run."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recommender.errors import KuberecError
from recommender.files import process_exists
from recommender.progress import Progress

HOME_VARIABLE, RUN_PID_VARIABLE = "KUBEREC_HOME", "KUBEREC_RUN_PID"
PROGRESS_PREFIX, ERROR_PREFIX = "[kuberec]", "[kuberec:error]"
NOTE_PREFIX = "[kuberec:note]"  # a line that stays on the screen of a run, unlike progress
GATE_SUFFIX = "-gate"  # the gate behind step `evaluate` is task `evaluate-gate`


def state_home() -> Path:
    """The folder of caches, feature store and serving state: KUBEREC_HOME, or .kuberec here."""
    return Path(os.environ.get(HOME_VARIABLE) or ".kuberec").resolve()


@contextmanager
def step(name: str) -> Iterator[Progress]:
    """Run a step's work; yields `progress(done, total, message)` (total 0: unknown).

    A KuberecError becomes its message and exit status 1; any other error keeps its traceback, since
    it is a defect of ours.
    """
    warnings.simplefilter("ignore")
    _end_with_run()
    started = time.monotonic()

    def progress(done: int, total: int, message: str = "") -> None:
        print(f"{PROGRESS_PREFIX} {name} {done}/{total} {message}", flush=True)

    try:
        yield progress
    except KuberecError as error:
        for line in str(error).splitlines():
            print(f"{ERROR_PREFIX} {line}", flush=True)
        sys.exit(1)
    print(f"{PROGRESS_PREFIX} {name} done in {time.monotonic() - started:.1f} s", flush=True)


def note(name: str, text: str) -> None:
    """Say something of step `name` that is to stay on the screen."""
    print(f"{NOTE_PREFIX} {name} {' '.join(text.split())}", flush=True)


def _end_with_run() -> None:
    """Leave when the run that started this step is gone, so that no step outlives a killed run."""
    pid = int(os.environ.get(RUN_PID_VARIABLE, "0"))
    if not pid:
        return

    def watch() -> None:
        while process_exists(pid):
            time.sleep(1)
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="end-with-run").start()
