"""fit(): golden numbers, what a kill costs, and what it leaves behind."""

import json
import multiprocessing
import os
import signal
import time

import pytest
import torch
from recommender_data import TINY, vocabulary, write_vectors, write_windows

from recommender.errors import KuberecError
from recommender.model import load_model
from recommender.settings import TrainingConfig

CONFIG = TrainingConfig(
    epochs=6, batch_size=8, learning_rate=0.02, warmup_epochs=0.5, patience=6, seed=7, threads=1
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
    assert [(done, total) for done, total, _ in lines] == [(n, 6) for n in range(1, 7)]
    assert "valid NDCG@10" in lines[0][2]
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
        if done == 4:  # before the fourth epoch's checkpoint
            raise Stopped

    checkpoints, out = tmp_path / "checkpoints", tmp_path / "model"
    with pytest.raises(Stopped):
        fit(*data, TINY, CONFIG, out, checkpoints, stop)
    assert not out.exists()
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]

    epochs = []
    record = fit(*data, TINY, CONFIG, out, checkpoints, lambda done, *_: epochs.append(done))
    assert epochs == [4, 5, 6]
    assert not checkpoints.exists()
    for name in ("train_loss", "ndcg@10"):
        expected = [row[name] for row in finished[1]["curves"]]
        assert [row[name] for row in record["curves"]] == pytest.approx(expected)
    weights, uninterrupted = load_model(out).state_dict(), load_model(finished[0]).state_dict()
    for name, value in weights.items():
        torch.testing.assert_close(value, uninterrupted[name], msg=name)


def _train_until_killed(data, out, checkpoints):
    from recommender.training.fit import fit

    fit(*data, TINY, CONFIG.model_copy(update={"epochs": 10_000}), out, checkpoints)


def test_a_killed_process_leaves_no_half_model(data, tmp_path):
    out, checkpoints = tmp_path / "model", tmp_path / "checkpoints"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_train_until_killed, args=(data, out, checkpoints))
    process.start()
    deadline = time.monotonic() + 60
    while not (checkpoints / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (checkpoints / "last.ckpt").exists()
    assert not out.exists()
    # Nothing but tensors and plain values: readable without pickle's code execution.
    torch.load(checkpoints / "last.ckpt", weights_only=True)


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
