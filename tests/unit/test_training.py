"""fit(): golden numbers, what a kill costs, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recommender_data import TINY, vocabulary, write_vectors, write_windows

from recommender.errors import KuberecError
from recommender.model import load_model
from recommender.settings import TrainingConfig

CONFIG = TrainingConfig(
    epochs=6,
    batch_size=8,
    learning_rate=0.02,
    warmup_epochs=0.5,
    patience=6,
    seed=7,
    threads=1,
    precision="float32",  # whatever this CPU can do
)
# Measured with torch 2.15 on one thread; other CPUs add up in another order.
GOLDEN_LOSS = [2.957, 1.131]
GOLDEN_NDCG = 0.846


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return write_windows(root / "windows"), write_vectors(root / "vectors")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A training without interruption: its folder and its record."""
    from recommender.training.fit import fit

    out = tmp_path_factory.mktemp("finished") / "model"
    lines = []
    record = fit(*data, TINY, CONFIG, out, None, lambda *line: lines.append(line))
    # On a slow machine there are lines within epochs too.
    epochs = [(done, total) for done, total, text in lines if "valid NDCG@10" in text]
    assert epochs == [(n, 6) for n in range(1, 7)]
    return out, record


def test_golden_numbers(finished):
    _, record = finished
    curves = record["curves"]
    losses = [curves[0]["train_loss"], curves[-1]["train_loss"]]
    assert losses == pytest.approx(GOLDEN_LOSS, rel=0.02)
    assert curves[record["best_epoch"]]["ndcg@10"] == pytest.approx(GOLDEN_NDCG, abs=0.05)


def test_the_artifact_is_whole_and_of_the_best_epoch(data, finished):
    from recommender.evaluation.metrics import evaluate_scorer, model_scorer
    from recommender.sequences import load_windows

    out, record = finished
    names = {"model.safetensors", "model.json", "vocabulary.json", "training.json"}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "training.json").read_text()) == record
    assert json.loads((out / "vocabulary.json").read_text()) == vocabulary()
    scorer = model_scorer(load_model(out))
    metrics = evaluate_scorer(scorer, load_windows(data[0])["valid"], len(vocabulary()))
    best = max(row["ndcg@10"] for row in record["curves"])
    assert metrics["ndcg@10"] == pytest.approx(best, abs=1e-6)


class Stopped(Exception):
    pass


def test_a_stopped_training_ends_as_if_it_had_not_been_stopped(data, finished, tmp_path):
    from recommender.training.fit import fit

    def stop(done, total, message):
        if done == 4 and "valid" in message:  # before the fourth epoch's checkpoint
            raise Stopped

    checkpoints, out = tmp_path / "checkpoints", tmp_path / "model"
    with pytest.raises(Stopped):
        fit(*data, TINY, CONFIG, out, checkpoints, stop)
    assert not out.exists()
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]

    epochs = []
    record = fit(*data, TINY, CONFIG, out, checkpoints, log=lambda epoch, _: epochs.append(epoch))
    assert epochs == [3, 4, 5]
    assert not checkpoints.exists()
    assert_same(out, record, finished)


def assert_same(out: Path, record: dict, finished: tuple[Path, dict]) -> None:
    """The same measurements, and the same bytes of weights."""
    for name in ("train_loss", "ndcg@10", "hr@10", "mrr", "learning_rate"):
        expected = [row[name] for row in finished[1]["curves"]]
        assert [row[name] for row in record["curves"]] == expected, name
    assert (out / "model.safetensors").read_bytes() == (
        finished[0] / "model.safetensors"
    ).read_bytes()


# Trains until step 2 of epoch 3 is saved and step 3 done, and is then killed as `kill -9` does.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from recommender.settings import ModelConfig, TrainingConfig
from recommender.training import module
from recommender.training.fit import fit

windows, vectors, model, training, out, checkpoints = json.loads(sys.argv[1])
step = module.Training.optimizer_step

def step_and_die(self, *arguments, **named):
    step(self, *arguments, **named)
    if self.current_epoch == 2 and len(self.watch.losses) + len(self.watch._unread) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

module.Training.optimizer_step = step_and_die
fit(Path(windows), Path(vectors), ModelConfig(**model), TrainingConfig(**training), Path(out),
    Path(checkpoints))
"""


def test_a_training_killed_within_an_epoch_ends_as_if_it_had_not_been(data, finished, tmp_path):
    from recommender.training.fit import fit

    out, checkpoints = tmp_path / "model", tmp_path / "checkpoints"
    config = CONFIG.model_copy(update={"checkpoint_steps": 2})
    arguments = [*map(str, data), TINY.model_dump(), config.model_dump(), str(out)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps([*arguments, str(checkpoints)])],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        timeout=250,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    # Nothing but tensors and plain values: readable without pickle's code execution.
    left = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert len(left["kuberec"]["curves"]) == 2
    assert len(left["kuberec"]["watch"]["losses"]) == 2
    told = []
    record = fit(*data, TINY, config, out, checkpoints, log=lambda epoch, row: told.append(epoch))
    assert told == [2, 3, 4, 5]
    assert_same(out, record, finished)


def test_deterministic_runs_give_the_same_bytes(data, tmp_path):
    from recommender.training.fit import fit

    try:
        weights = []
        for name in ("one", "two"):
            update = {"deterministic": True, "epochs": 2, "precision": "auto"}
            config = CONFIG.model_copy(update=update)
            fit(*data, TINY, config, tmp_path / name)
            weights.append((tmp_path / name / "model.safetensors").read_bytes())
        assert weights[0] == weights[1]
    finally:
        torch.use_deterministic_algorithms(False)


def test_accumulated_batches_learn_as_larger_ones(data, tmp_path):
    from recommender.training.fit import fit

    still = TINY.model_copy(update={"dropout": 0.0})
    curves = []
    for rows, pieces in ((16, 1), (4, 4)):
        update = {"batch_size": rows, "accumulate": pieces, "epochs": 3}
        record = fit(*data, still, CONFIG.model_copy(update=update), tmp_path / str(pieces))
        curves.append(record["curves"])
    for name in ("train_loss", "learning_rate"):
        one, other = ([row[name] for row in curve] for curve in curves)
        assert other == pytest.approx(one, rel=1e-3), name


def test_a_training_that_fails_writes_no_model_and_says_where(data, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recommender.training.fit import fit
    from recommender.training.watch import TrainingFailed

    table = pq.read_table(data[1] / "vectors.parquet").to_pydict()
    table["vector"][3] = [float("inf")] * len(table["vector"][3])
    broken = write_vectors(tmp_path / "vectors")

    pq.write_table(pa.table(table), broken / "vectors.parquet")
    with pytest.raises(TrainingFailed, match=r"is nan at step 1 \(epoch 1, step 1 of \d+\)"):
        fit(data[0], broken, TINY, CONFIG, tmp_path / "model", tmp_path / "checkpoints")
    assert not (tmp_path / "model").exists()


def test_training_stops_when_validation_no_longer_improves(data, tmp_path):
    from recommender.training.fit import fit

    config = CONFIG.model_copy(update={"epochs": 50, "patience": 2, "learning_rate": 1e-9})
    record = fit(*data, TINY, config, tmp_path / "model")
    assert len(record["curves"]) == record["best_epoch"] + 3


def test_each_row_is_told_and_the_caller_can_end_it(data, tmp_path):
    from recommender.training.fit import fit

    told = []
    record = fit(
        *data,
        TINY,
        CONFIG,
        tmp_path / "model",
        log=lambda epoch, row: told.append((epoch, row)),
        stop=lambda epoch, row: epoch == 1,
    )
    assert told == list(enumerate(record["curves"]))
    assert len(told) == 2
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_an_item_without_a_vector_is_named(data, tmp_path):
    import pyarrow.parquet as pq

    from recommender.training.fit import fit

    table = pq.read_table(data[1] / "vectors.parquet").slice(1)
    pq.write_table(table, tmp_path / "vectors.parquet")
    with pytest.raises(KuberecError, match=r"1 items of the events have no text vector.*'i00'"):
        fit(data[0], tmp_path, TINY, CONFIG, tmp_path / "model")
