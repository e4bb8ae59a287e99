"""What every step does around its work: progress lines, readable failures, an end with its run."""

import contextlib
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
def step(name: str, grace_s: float = 0.0) -> Iterator[Progress]:
    """Run a step's work; yields `progress(done, total, message)` (total 0: unknown).

    Args:
        grace_s: longest that the work may go on when the run is gone: to put back what it changed.

    A KuberecError becomes its message and exit status 1; any other error keeps its traceback, since
    it is a defect of ours.
    """
    warnings.simplefilter("ignore")
    _end_with_run(grace_s)
    started = time.monotonic()

    def progress(done: int, total: int, message: str = "") -> None:
        _say(f"{PROGRESS_PREFIX} {name} {done}/{total} {message}")

    try:
        yield progress
    except KuberecError as error:
        for line in str(error).splitlines():
            _say(f"{ERROR_PREFIX} {line}")
        sys.exit(1)
    _say(f"{PROGRESS_PREFIX} {name} done in {time.monotonic() - started:.1f} s")


def note(name: str, text: str) -> None:
    """Say something of step `name` that is to stay on the screen."""
    _say(f"{NOTE_PREFIX} {name} {' '.join(text.split())}")


def _say(line: str) -> None:
    """To the run, if it is still there: what is being put back goes on without it."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def _end_with_run(grace_s: float) -> None:
    """Leave when the run that started this step is gone, so that no step outlives a killed run."""
    pid = int(os.environ.get(RUN_PID_VARIABLE, "0"))
    if not pid:
        return

    def watch() -> None:
        while process_exists(pid):
            time.sleep(1)
        time.sleep(grace_s)
        os._exit(143)

    threading.Thread(target=watch, daemon=True, name="end-with-run").start()
