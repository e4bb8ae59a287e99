"""A trial as a process: the command of tuning.trial, its lines, and the answers it waits for."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tuning.trial import GO_ON, OBJECTIVE, STOP

# Katib's default filter (kubeflow/katib, pkg/metricscollector/v1beta1/common/const.go).
METRIC = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")


class TrialProcess:
    """One running trial; its stderr goes to a log.

    In a session of its own, so that Ctrl-C reaches the search alone, which then ends it. When the
    search is killed, the trial reads the end of its stdin after the epoch, and stops.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **env},
                text=True,
                bufsize=1,
                start_new_session=True,
            )

    def epochs(self) -> Iterator[dict[str, float]]:
        """Each told epoch's numbers by name; `answer` goes between two of them."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            numbers = {name: float(value) for name, value, *_ in METRIC.findall(line) if value}
            if OBJECTIVE in numbers:
                yield numbers

    def answer(self, go_on: bool) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{GO_ON if go_on else STOP}\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Have it end now, wherever it is."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self) -> str | None:
        """Wait for its end; why it failed, or None.

        Raises:
            Killed: a signal ended it, which says nothing of its config.
        """
        with self._process:  # closes both pipes
            pass
        code = self._process.returncode
        if code < 0 or code == 128 + signal.SIGTERM:
            number = -code if code < 0 else signal.SIGTERM
            raise Killed(f"killed by {signal.Signals(number).name}")
        return None if code == 0 else self._reason(code)

    def _reason(self, code: int) -> str:
        """The last words of a trial that failed."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return (said or lines or [f"exit status {code}"])[-1]


class Killed(Exception):
    """The trial's process was killed, by a person, the system, or for want of memory."""
