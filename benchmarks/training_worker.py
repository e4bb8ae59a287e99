"""Our side of the training benchmark: `python -m benchmarks.training_worker WORK CONFIG`.

WORK holds windows/ and vectors/; CONFIG is JSON with "model", "training", "name" and how many
"samples_an_epoch" there are. It trains as a run does (recommender.training.fit) and is measured
where that validates itself, after each epoch. Its clock runs on during that validation, which
RecBole's does not.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from recommender.settings import ModelConfig, TrainingConfig
from recommender.training.fit import fit


def peak_mib() -> float:
    """The most that was resident of this process, since it began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    work, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    out, sys.stdout = sys.stdout, sys.stderr
    model = ModelConfig.model_validate(settings["model"])
    training = TrainingConfig.model_validate(settings["training"])
    torch.set_num_threads(training.threads)

    def say(what: str, **more: Any) -> bool:
        """Whether to go on."""
        print(json.dumps({"what": what, **more}), file=out, flush=True)
        return sys.stdin.readline().strip() == "go"

    if not say("ready", versions={"torch": torch.__version__}, threads=torch.get_num_threads()):
        return
    began, processor_began = time.perf_counter(), time.process_time()
    seconds = setup_s = 0.0

    def stop(epoch: int, row: dict[str, float]) -> bool:
        nonlocal seconds, setup_s, processor_began
        seconds += row["seconds"]
        processor_s = time.process_time() - processor_began
        if epoch == 0:
            setup_s = time.perf_counter() - began - seconds
        goes_on = say(
            "measure",
            seconds=seconds,
            processor_s=processor_s,
            samples=(epoch + 1) * settings["samples_an_epoch"],
            setup_s=setup_s,
            peak_mib=peak_mib(),
            **{key: row[key] for key in ("ndcg@10", "hr@10", "train_loss")},
        )
        processor_began = time.process_time() - processor_s
        return not goes_on

    fit(work / "windows", work / "vectors", model, training, work / settings["name"], stop=stop)


if __name__ == "__main__":
    main()
