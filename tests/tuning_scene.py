"""A study in a folder, for tests of the search: a small space, and trials without torch."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recommender_data import TINY

from recommender.settings import TrainingConfig
from tuning.base import Base
from tuning.owner import owner
from tuning.search import Search, Told
from tuning.settings import TuningConfig, parse_tuning
from tuning.space import check_space
from tuning.study import OWNERS, Study

BASE = Base(TINY, TrainingConfig(epochs=4, batch_size=16, warmup_epochs=1, threads=1))
SPACE = {
    "model.dim": {"choices": [8, 12, 16]},
    "model.heads": {"choices": [1, 2, 8]},  # 12 is no multiple of 8
    "training.learning_rate": {"low": 1e-3, "high": 5e-2, "log": True},
}


def tuning(**changes: Any) -> TuningConfig:
    pruner = {"kind": "none"}
    content = {"space": SPACE, "startup_trials": 3, "pruner": pruner, **changes}
    return parse_tuning(content, "space.yaml")


@contextlib.contextmanager
def opened(folder: Path, config: TuningConfig, data: str = "data") -> Iterator[Study]:
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with owner(folder / OWNERS) as own:
        yield Study(folder, config, check_space(config, BASE), {"data": data}, own)


def protocol_command(
    score: Callable[[dict[str, Any]], float] = lambda values: values["training.learning_rate"],
    **more: Any,
) -> Callable[[dict[str, Any]], list[str]]:
    """Of tests/protocol_trial.py."""
    program = str(Path(__file__).with_name("protocol_trial.py"))

    def command(values: dict[str, Any]) -> list[str]:
        told = {"score": score(values)} | more
        return [sys.executable, program, *(f"--set={key}={value}" for key, value in told.items())]

    return command


def search(study: Study, trials: int, command: Any = None, jobs: int = 1, **more: Any) -> Search:
    """A search that keeps what it says in `told`."""
    told: list[Told] = []
    made = Search(study, BASE, trials, jobs, command or protocol_command(), told.append, **more)
    made.__dict__["told"] = told
    return made
