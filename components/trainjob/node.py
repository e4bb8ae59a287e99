"""What torchrun starts on every node: `torchrun -m components.trainjob.node FOLDER`.

FOLDER is the exchange with the train step, on a volume that all nodes share: job.json with the
settings, windows/ and vectors/ to read, model/ written by process 0, checkpoints/.
"""

import sys
from pathlib import Path

from components.step import step
from recommender.files import read_json
from recommender.settings import ModelConfig, TrainingConfig


def main(folder: Path) -> None:
    """Train on this process's share; all of them end, or none does well."""
    from recommender.training.fit import fit

    with step("train") as progress:
        job = read_json(folder / "job.json")
        fit(
            folder / "windows",
            folder / "vectors",
            ModelConfig.model_validate(job["model"]),
            TrainingConfig.model_validate(job["training"]),
            folder / "model",
            folder / "checkpoints",
            progress,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
