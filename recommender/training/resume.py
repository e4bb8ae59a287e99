"""The file from which a killed training goes on."""

from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.callbacks import Checkpoint

NAME = "last.ckpt"  # temporary, read with weights_only: no code is run from it


def resume_file(directory: Path | None) -> Path | None:
    """What a killed training left in `directory`, if it left something."""
    path = directory and Path(directory) / NAME
    return path if path and path.is_file() else None


class Resume(Checkpoint):
    """Writes the state of the whole training after every epoch, and every `steps` steps within.

    Lightning calls a Checkpoint after all other callbacks, so their state is in it, and writes
    beside the old file and renames: a kill leaves the one or the other.

    Args:
        steps: optimiser steps; 0: only after epochs.
        pieces: batches an optimiser step.
    """

    def __init__(self, directory: Path, steps: int, pieces: int) -> None:
        self.path = Path(directory) / NAME
        self.batches = steps * pieces

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        last = index + 1 == trainer.num_training_batches  # its epoch's end writes soon
        if self.batches and (index + 1) % self.batches == 0 and not last:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        trainer.save_checkpoint(self.path)
