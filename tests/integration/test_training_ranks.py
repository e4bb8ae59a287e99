"""Two processes under torchrun train what one would, by the program that every node runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recommender_data import TINY, vocabulary, write_vectors, write_windows
from safetensors.torch import load_file

from recommender.files import write_json
from recommender.settings import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
# Without dropout, whose masks are each process's own.
MODEL = TINY.model_copy(update={"dropout": 0.0})
# 48 windows in batches of 7: shares of unequal size, and a last batch that may leave one without.
CONFIG = TrainingConfig(
    epochs=4,
    batch_size=7,
    learning_rate=0.02,
    warmup_epochs=0.5,
    patience=4,
    seed=7,
    threads=1,
    precision="float32",
)
# Accumulated batches of which the last leaves one process without rows, gradients that are cut,
# an average that forgets fast enough to be seen.
EVERYTHING = {
    "epochs": 2,
    "batch_size": 4,
    "accumulate": 2,
    "gradient_clip": 0.1,
    "average_decay": 0.9,
    "checkpoint_steps": 2,
}
SEVERAL = ROOT / "tests" / "several_trainings.py"
PAIR = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def exchange(folder: Path, **changes: object) -> Path:
    """What the train step lays down for the nodes."""
    write_windows(folder / "windows")
    write_vectors(folder / "vectors")
    training = CONFIG.model_dump() | changes
    write_json(folder / "job.json", {"model": MODEL.model_dump(), "training": training})
    return folder


ENVIRONMENT = os.environ | {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


def train(folder: Path, *torchrun: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *torchrun, "-m", "components.trainjob.node", str(folder)]
    return subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=250
    )


def train_several(*folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """By two processes, one folder after another, so that they start once."""
    command = [sys.executable, *PAIR, str(SEVERAL), *map(str, folders)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    alone = exchange(tmp_path_factory.mktemp("alone"))
    done = train(alone)
    assert done.returncode == 0, done.stdout + done.stderr
    together = exchange(tmp_path_factory.mktemp("together"))
    pair = train(together, *PAIR)
    assert pair.returncode == 0, pair.stdout + pair.stderr
    return alone, together, pair


def curves(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "model" / "training.json").read_text())["curves"]


def test_two_processes_learn_as_one_does(folders):
    alone, together, _ = folders
    one, two = curves(alone), curves(together)
    assert [row["epoch"] for row in two] == [row["epoch"] for row in one]
    for name, tolerance in (("train_loss", 0.01), ("ndcg@10", 0.03), ("hr@10", 0.05)):
        assert [row[name] for row in two] == pytest.approx(
            [row[name] for row in one], abs=tolerance
        )
    assert two[-1]["train_loss"] < two[0]["train_loss"]


def test_the_model_is_whole_and_ranks_as_it_was_measured(folders):
    from recommender.evaluation.metrics import evaluate_scorer, model_scorer
    from recommender.model import load_model
    from recommender.sequences import load_windows

    _, together, _ = folders
    names = {"model.safetensors", "model.json", "vocabulary.json", "training.json"}
    assert {path.name for path in (together / "model").iterdir()} == names
    scorer = model_scorer(load_model(together / "model"))
    metrics = evaluate_scorer(
        scorer, load_windows(together / "windows")["valid"], len(vocabulary())
    )
    best = max(row["ndcg@10"] for row in curves(together))
    assert metrics["ndcg@10"] == pytest.approx(best, abs=1e-6)


def test_only_the_first_process_speaks_and_writes(folders):
    _, together, pair = folders
    told = [line for line in pair.stdout.splitlines() if line.startswith("[kuberec] train ")]
    assert sum("valid NDCG@10" in line for line in told) == CONFIG.epochs
    assert {path.name for path in together.iterdir()} == {
        *("windows", "vectors", "job.json", "model")
    }


def test_a_mistake_in_the_data_ends_every_process_with_its_message(tmp_path):
    folder = exchange(tmp_path / "job")
    write_json(folder / "windows" / "vocabulary.json", [*vocabulary(), "without a vector"])
    pair = train(folder, *PAIR)
    assert pair.returncode != 0
    assert "[kuberec:error]" in pair.stdout
    assert "no text vector" in pair.stdout
    assert not (folder / "model").exists()


def test_a_shared_out_model_learns_as_a_whole_one(folders, tmp_path):
    """FSDP, in pieces too: weights, average and optimiser are put together for the model."""
    from recommender.model import load_model

    alone, _, _ = folders
    folder = exchange(tmp_path / "shared", strategy="fsdp")
    done = train(folder, *PAIR)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = curves(alone), curves(folder)
    for name, tolerance in (("train_loss", 0.01), ("ndcg@10", 0.03), ("hr@10", 0.05)):
        assert [row[name] for row in two] == pytest.approx(
            [row[name] for row in one], abs=tolerance
        )
    assert load_model(folder / "model").config == MODEL


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory) -> Path:
    """All that training can do, by FSDP: in float32, in bfloat16, and by DDP."""
    root = tmp_path_factory.mktemp("shared_out")
    jobs = {
        "float32": {"strategy": "fsdp"},
        "bfloat16": {"strategy": "fsdp", "precision": "bfloat16"},
        "ddp": {"strategy": "ddp"},
    }
    folders = [exchange(root / name, **EVERYTHING, **changes) for name, changes in jobs.items()]
    done = train_several(*folders)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def alone(folder: Path, **changes: object) -> list[dict[str, float]]:
    """The curves of one process, this one."""
    from recommender.training.fit import fit

    exchange(folder)
    config = TrainingConfig(**CONFIG.model_dump() | EVERYTHING | changes)
    return fit(folder / "windows", folder / "vectors", MODEL, config, folder / "model")["curves"]


def losses(rows: list[dict[str, float]]) -> list[float]:
    return [row["train_loss"] for row in rows]


@pytest.mark.parametrize("name", ["float32", "bfloat16", "ddp"])
def test_accumulating_clipping_and_averaging_are_those_of_one_process(shared_out, tmp_path, name):
    precision = "bfloat16" if name == "bfloat16" else "float32"
    one, two = alone(tmp_path / "one", precision=precision), curves(shared_out / name)
    assert losses(two) == pytest.approx(losses(one), abs=2e-3)
    assert [row["ndcg@10"] for row in two] == pytest.approx(
        [row["ndcg@10"] for row in one], abs=0.03
    )


def test_that_comparison_can_tell_whether_gradients_are_clipped(shared_out, tmp_path):
    unclipped = alone(tmp_path / "unclipped", gradient_clip=100.0)
    assert losses(unclipped) != pytest.approx(losses(curves(shared_out / "float32")), abs=2e-3)


def test_a_shared_out_training_goes_on_after_a_kill_as_if_there_had_been_none(shared_out, tmp_path):
    folder = exchange(tmp_path / "killed", **EVERYTHING, strategy="fsdp")
    steps = 11  # of the first epoch; step 2 of the second is saved, step 3 is lost
    killed = train_several(folder, KILLED_AFTER=str(steps + 3))
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert not (folder / "model").exists()
    left = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert left["global_step"] == steps + 2

    done = train(folder, *PAIR)
    assert done.returncode == 0, done.stdout + done.stderr
    names = ("train_loss", "ndcg@10", "hr@10", "mrr", "learning_rate")
    for one, two in zip(curves(shared_out / "float32"), curves(folder), strict=True):
        assert [two[name] for name in names] == pytest.approx([one[name] for name in names])
    kept, again = (
        load_file(path / "model" / "model.safetensors") for path in (shared_out / "float32", folder)
    )
    for name, weight in kept.items():
        torch.testing.assert_close(again[name], weight, rtol=1e-5, atol=1e-6)
