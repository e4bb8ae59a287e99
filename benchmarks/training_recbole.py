"""RecBole's SASRec, one side of the training benchmark: run by .venv-recbole's own Python.

    .venv-recbole/bin/python benchmarks/training_recbole.py WORK CONFIG

WORK holds `sequences/sequences.inter` (benchmarks.training_sides writes it); CONFIG is JSON:
RecBole's own settings under "recbole", and "threads" and "every_steps". RecBole is not changed: its
dataset, its loaders, its model, and its Trainer's own loop over an epoch, whose argument
`loss_func` is where steps are counted and where the run pauses to be measured. It imports nothing
of this project, whose packages this environment does not have.

What is said and heard: benchmarks.training_sides. Scores go out as hidden states and item vectors.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed


class Finished(Exception):
    """The other end has seen enough."""


def peak_mib() -> float:
    """The most that was resident of this process, since it began."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


class Run:
    """A SASRec in training, that stops its clock every so many steps and asks whether to go on.

    Attributes:
        seconds: in RecBole's loop, without the pauses.
        processor_s: of this process in the same time.
    """

    def __init__(self, work: Path, settings: dict[str, Any]) -> None:
        torch.set_num_threads(settings["threads"])
        self.work, self.every = work, settings["every_steps"]
        options = settings["recbole"] | {"data_path": str(work), "checkpoint_dir": str(work)}
        # Its argument parser reads the command line: what is ours is not for it.
        sys.argv = sys.argv[:1]
        self.config = Config(model="SASRec", dataset="sequences", config_dict=options)
        init_seed(self.config["seed"], self.config["reproducibility"])
        dataset = create_dataset(self.config)
        self.train, self.valid, _ = data_preparation(self.config, dataset)
        self.model = SASRec(self.config, self.train.dataset).to(self.config["device"])
        self.trainer = Trainer(self.config, self.model)
        self.field = self.config["ITEM_ID_FIELD"]
        self.tokens = dataset.id2token(self.field, np.arange(1, dataset.item_num))
        self.user_tokens = dataset.id2token(
            self.config["USER_ID_FIELD"], np.arange(dataset.user_num)
        )
        self.steps = self.samples = 0
        self.seconds = self.processor_s = 0.0

    def loss(self, interaction: Any) -> torch.Tensor:
        """RecBole's own loss; before it, the pause that is due."""
        if self.steps and self.steps % self.every == 0:
            self.pause()
        self.steps += 1
        self.samples += len(interaction)
        loss: torch.Tensor = self.model.calculate_loss(interaction)
        return loss

    def pause(self) -> None:
        """Stops the clock, shows the scores of validation, and waits."""
        self.seconds += time.perf_counter() - self.started
        self.processor_s += time.process_time() - self.processor_started
        self.export(self.work / "scores.npz")
        self.say("measure", scores="scores.npz")
        if hear() != "go":
            raise Finished
        self.model.train()
        self.processor_started = time.process_time()
        self.started = time.perf_counter()

    def say(self, what: str, **more: Any) -> None:
        counted = {"seconds": self.seconds, "processor_s": self.processor_s}
        counted |= {"steps": self.steps, "samples": self.samples, "peak_mib": peak_mib()}
        say({"what": what, **counted, **more})

    @torch.no_grad()
    def export(self, path: Path) -> None:
        """Hidden states [U, D] of validation's histories and the items' vectors [N, D]."""
        self.model.eval()
        rows = self.valid.dataset.inter_feat
        hidden = [
            self.model.forward(
                rows[self.model.ITEM_SEQ][start : start + 256],
                rows[self.model.ITEM_SEQ_LEN][start : start + 256],
            )
            for start in range(0, len(rows), 256)
        ]
        np.savez(
            path,
            hidden=torch.cat(hidden).numpy(),
            items=self.model.item_embedding.weight[1:].numpy(),
            item_ids=self.tokens.astype(str),
            user_ids=self.user_tokens[rows[self.config["USER_ID_FIELD"]].numpy()].astype(str),
            target_ids=self.tokens[rows[self.field].numpy() - 1].astype(str),
        )

    def own_metric(self) -> dict[str, float]:
        """What RecBole's own evaluation says of the same weights; it masks nothing here."""
        found = self.trainer.evaluate(self.valid, load_best_model=False)
        return {name: float(value) for name, value in found.items()}


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), file=OUT, flush=True)


def hear() -> str:
    return sys.stdin.readline().strip()


OUT = sys.stdout


def main() -> None:
    work, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    sys.stdout = sys.stderr  # RecBole and its packages print: the answers stay apart
    began, processor_began = time.perf_counter(), time.process_time()
    run = Run(work, settings)
    import recbole

    versions = {"recbole": recbole.__version__, "torch": torch.__version__}
    parameters = sum(weight.numel() for weight in run.model.parameters())
    run.say(
        "ready",
        setup_s=time.perf_counter() - began,
        setup_processor_s=time.process_time() - processor_began,
        versions=versions,
        parameters=parameters,
        threads=torch.get_num_threads(),
        epoch_steps=len(run.train),
    )
    if hear() == "go":
        try:
            run.started, run.processor_started = time.perf_counter(), time.process_time()
            for epoch in range(1000):
                run.trainer._train_epoch(run.train, epoch, loss_func=run.loss)
        except Finished:
            run.say("finished", own_metric=run.own_metric())


if __name__ == "__main__":
    main()
