"""The search: trials in processes, side by side, until the budget is spent or a person ends it."""

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optuna.trial import Trial

from recommender.errors import KuberecError
from tuning.base import Base, Refused, value_text
from tuning.process import Killed, TrialProcess
from tuning.study import AGAIN, Study
from tuning.trial import OBJECTIVE

HOPELESS = 3  # failures with nothing else: what is wrong is not the values
MOST_REFUSALS = 1000  # in a search, before its space is said to be at fault

Command = Callable[[dict[str, Any]], list[str]]
State = Literal["complete", "pruned", "refused", "failed", "again"]


@dataclass(frozen=True)
class Told:
    """One trial's end, for the screen."""

    number: int
    state: State
    value: float | None
    seconds: float
    epochs: int
    reason: str
    values: dict[str, Any]


@dataclass
class Search:
    """Runs trials of a study.

    Attributes:
        trials: the study's in all, those of earlier searches included.
        command: of a trial with such values.
        say: called with each trial's end.
    """

    study: Study
    base: Base
    trials: int
    jobs: int
    command: Command
    say: Callable[[Told], None]
    timeout_s: float | None = None
    _ending: threading.Event = field(default_factory=threading.Event)
    _errors: list[BaseException] = field(default_factory=list)
    _processes: dict[int, TrialProcess] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _refusals: int = 0
    _working: int = 0

    def run(self) -> Literal["spent", "timeout", "interrupted"]:
        """Search; how it ended. Trials that were cut short are queued for the next search.

        Raises:
            KuberecError: every trial fails, or the space has hardly a config that is accepted.
        """
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.jobs)]
        deadline = time.monotonic() + self.timeout_s if self.timeout_s else None
        ended: Literal["spent", "timeout", "interrupted"] = "spent"
        self._working = self.jobs
        for worker in workers:
            worker.start()
        while True:
            try:
                # Not by Thread.join: interrupted, it takes the thread for ended (Python 3.11).
                while self._working:
                    time.sleep(0.05)
                    if deadline and time.monotonic() > deadline and not self._ending.is_set():
                        ended = "timeout"
                        self._end()
                break
            except KeyboardInterrupt:
                ended = "interrupted"
                self._end()
        if self._errors:
            raise self._errors[0]
        return ended

    def _end(self) -> None:
        with self._lock:
            self._ending.set()
            for process in self._processes.values():
                process.end()

    def _work(self) -> None:
        try:
            while True:
                with self._lock:  # counted and asked in one: no search runs more than it may
                    if self._ending.is_set() or self.study.spent() >= self.trials:
                        return
                    trial = self.study.ask()
                self._one(trial)
        except BaseException as error:
            self._errors.append(error)
            self._end()
        finally:
            with self._lock:
                self._working -= 1

    def _one(self, trial: Trial) -> None:
        started = time.monotonic()
        epochs: list[float] = []

        def told(state: State, reason: str = "") -> None:
            best = max(epochs) if epochs and state in ("complete", "pruned") else None
            seconds = time.monotonic() - started
            self.say(
                Told(trial.number, state, best, seconds, len(epochs), reason, dict(trial.params))
            )

        try:
            self.base.with_values(trial.params)
        except Refused as refusal:
            self.study.prune(trial, str(refusal), refused=True)
            told("refused", str(refusal))
            self._count_refusal(refusal)
            return
        log = self.study.folder / "trials" / f"{trial.number:04d}.log"
        with self._lock:
            if self._ending.is_set():
                self.study.fail_and_queue(trial, "interrupted", counts=False)
                return
            environment = {"TMPDIR": str(self.study.folder / "tmp")} | threads(self.jobs)
            process = TrialProcess(self.command(dict(trial.params)), log, environment)
            self._processes[trial.number] = process
        pruned = ""
        try:
            for numbers in process.epochs():
                epochs.append(numbers[OBJECTIVE])
                goes_on = self.study.report(trial, len(epochs), epochs[-1])
                process.answer(goes_on)
                if not goes_on:
                    pruned = f"{epochs[-1]:.4f} after epoch {len(epochs)} was too low"
            failure = process.wait()
        except Killed as killed:
            if self._ending.is_set():
                self.study.fail_and_queue(trial, "interrupted", counts=False)
            else:
                again = self.study.fail_and_queue(trial, str(killed), counts=True)
                told("again" if again else "failed", str(killed))
            return
        finally:
            with self._lock:
                del self._processes[trial.number]
        if failure or not epochs:
            reason = failure or "it told no validation score"
            self.study.fail(trial, reason)
            told("failed", reason)
            self._give_up_where_all_fail(reason)
        elif pruned:
            self.study.prune(trial, pruned)
            told("pruned", pruned)
        else:
            self.study.complete(trial, max(epochs))
            told("complete")

    def _count_refusal(self, refusal: Refused) -> None:
        with self._lock:
            self._refusals += 1
        if self._refusals > MOST_REFUSALS:
            raise KuberecError(
                f"{self._refusals} configs of the space were refused, the last because: {refusal}; "
                "narrow the space to values that go together"
            )

    def _give_up_where_all_fail(self, reason: str) -> None:
        states = [each.state.name for each in self.study.trials() if AGAIN not in each.user_attrs]
        if states.count("FAIL") >= HOPELESS and "COMPLETE" not in states and "PRUNED" not in states:
            raise KuberecError(
                f"all {states.count('FAIL')} trials failed, the last because: {reason} "
                f"(logs in {self.study.folder / 'trials'})"
            )


def trial_command(base: Path, windows: Path, vectors: Path) -> Command:
    """The command of tuning.trial for some values."""

    def command(values: dict[str, Any]) -> list[str]:
        return [
            *(sys.executable, "-m", "tuning.trial", "--ask", "--base", str(base)),
            *("--windows", str(windows), "--vectors", str(vectors)),
            *(f"--set={key}={value_text(value)}" for key, value in values.items()),
        ]

    return command


def threads(jobs: int) -> dict[str, str]:
    """Each of several trials gets its share of the cores; more threads than cores slow all down."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
