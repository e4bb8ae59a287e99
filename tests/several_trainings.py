"""Under torchrun: the node's program for one folder after another, in one start of its processes.

    torchrun ... tests/several_trainings.py FOLDER...

`KILLED_AFTER=N` in the environment: the last process is killed as by `kill -9` after N steps.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from components.trainjob.node import main
from recommender.training import module

KILLED_AFTER = int(os.environ.get("KILLED_AFTER", "0"))
step = module.Training.optimizer_step


def step_and_die(self: Any, *arguments: Any, **named: Any) -> None:
    step(self, *arguments, **named)
    last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    if last and self.global_step == KILLED_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if KILLED_AFTER:
        module.Training.optimizer_step = step_and_die  # type: ignore[method-assign]
    for folder in sys.argv[1:]:
        main(Path(folder))
