"""The live view of a local run: one line a step, fed with the output of the pipeline's runner."""

import re
import textwrap
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from components.step import ERROR_PREFIX, GATE_SUFFIX, NOTE_PREFIX, PROGRESS_PREFIX

STARTED = re.compile(r"Executing task '?(?:\x1b\[\d+m)?'?([\w-]+)")
CACHED = re.compile(r"Task ([\w-]+) cache hit")
FINISHED = re.compile(
    r"Task '?(?:\x1b\[\d+m)?'?([\w-]+)\W.*finished with status.*(SUCCESS|FAILURE)"
)
ADVANCED = re.compile(re.escape(PROGRESS_PREFIX) + r" ([\w-]+) (\d+)/(\d+) (.*)")
NOTED = re.compile(re.escape(NOTE_PREFIX) + r" ([\w-]+) (.*)")
EARLIER = "measured by an earlier run and taken from the cache; --no-cache measures again"
DEFECT = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b.*")


class RunView:
    """A text stream that writes all it gets to the run's log and shows the steps on the console.

    On a terminal each step has a spinner, a bar and its latest message; elsewhere (CI, a pipe) one
    line is printed when it ends. What a step notes (components.step.note) is printed as it comes.
    """

    encoding = "utf-8"

    def __init__(self, console: Console, log: Path, *, verbose: bool = False) -> None:
        # What the runner prints is redirected to this view, the view's own output is not.
        self.console = console = Console(
            file=console.file, width=console.width, force_terminal=console.is_terminal
        )
        self.errors: list[str] = []  # the message of the step that failed
        self.latest: deque[str] = deque(maxlen=40)  # lines, for errors that have no message
        self._log = log.open("w", encoding="utf-8")
        self._verbose = verbose
        self._buffer = ""
        self._tasks: dict[str, TaskID] = {}
        self._cached: set[str] = set()
        self._began: dict[str, float] = {}
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<19}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[seconds]:>6}  {task.fields[message]}", markup=False),
            console=console,
            disable=not console.is_terminal or verbose,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        self._log.close()

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        if self._verbose:
            self.console.out(text, end="", highlight=False)
        *lines, self._buffer = (self._buffer + text).split("\n")
        for line in lines:
            self._read(line)
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._log.fileno()

    def defect(self) -> str:
        """The last line of the latest traceback, such as "KeyError: 'x'", or nothing."""
        lines = [line.strip() for line in self.latest]
        return next((line for line in reversed(lines) if DEFECT.match(line)), "")

    def _read(self, line: str) -> None:
        self.latest.append(line)
        if ERROR_PREFIX in line:
            self.errors.append(line.split(ERROR_PREFIX + " ", 1)[-1])
        elif match := ADVANCED.search(line):
            name, done, total, message = match.groups()
            self._show(name, int(done), int(total), message)
        elif match := NOTED.search(line):
            self._print(match[1], "", match[2])
        elif match := CACHED.search(line):
            self._cached.add(match[1])
            self._finish(match[1], "unchanged, taken from the cache")
        elif match := STARTED.search(line):
            self._began[match[1]] = time.monotonic()
            self._show(match[1], 0, 0, "")
        elif match := FINISHED.search(line):
            failed = match[2] != "SUCCESS"
            if failed and match[1].removesuffix(GATE_SUFFIX) in self._cached:
                self.errors.append(EARLIER)
            self._finish(match[1], "failed" if failed else "")

    def _task(self, step: str) -> TaskID:
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=None, message="", seconds="")
        return self._tasks[step]

    def _show(self, step: str, done: int, total: int, message: str) -> None:
        self._bars.update(
            self._task(step), completed=done, total=total or None, message=message, seconds=""
        )

    def _finish(self, step: str, note: str) -> None:
        began = self._began.get(step)
        seconds = f"{time.monotonic() - began:.1f} s" if began else "0.0 s"
        task = self._task(step)
        message = note or self._bars.tasks[task].fields["message"]
        self._bars.update(task, total=1, completed=1, message=message, seconds=seconds)
        if self._bars.disable:
            self._print(step, seconds, message)

    def _print(self, step: str, seconds: str, message: str) -> None:
        if not self._verbose:  # else the whole output is there already
            before = f"  {step:<19} {seconds:>8}  "
            line = textwrap.fill(
                message,
                max(self.console.width, 2 * len(before)),
                initial_indent=before,
                subsequent_indent=" " * len(before),
                break_long_words=False,
                break_on_hyphens=False,
            )
            self.console.print(line or before, highlight=False, markup=False)
