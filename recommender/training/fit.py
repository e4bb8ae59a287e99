"""fit(): train a SequentialRecommender on point-in-time windows with Lightning.

Under torchrun several processes train as one would: each takes its rows of every batch, so that a
batch, and with it the mathematics, is the same however many they are. Process 0 writes and speaks.
"""

import logging
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from recommender.errors import KuberecError
from recommender.files import atomic_directory, write_json
from recommender.item_inputs import load_item_vectors
from recommender.model import SequentialRecommender, save_model
from recommender.progress import Progress, silent
from recommender.sequences import (
    Vocabulary,
    item_counts,
    load_windows,
    log_popularity,
)
from recommender.settings import ModelConfig, TrainingConfig
from recommender.training.module import METRIC, Log, Stop, Training
from recommender.training.ranks import placement, rank

# What it has to say about accelerators and its own cloud, `progress` says better or not at all.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

CHECKPOINT = "last"  # .ckpt, a temporary resume file, read with weights_only


def fit(
    windows_dir: Path,
    vectors_dir: Path,
    model_config: ModelConfig,
    config: TrainingConfig,
    out_dir: Path,
    checkpoint_dir: Path | None = None,
    progress: Progress = silent,
    log: Log | None = None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train, and write the best epoch's model to `out_dir` (model/ of the design).

    Under torchrun every process calls this with the same arguments and the same files.

    Args:
        checkpoint_dir: where a killed run leaves its state; the next one with the same folder
            goes on from there. The caller names it by everything that the result depends on. It
            is removed at the end.
        log: told each new row of curves, by process 0, after the epoch's validation.
        stop: asked after `log`, by process 0; True ends the training well, as early stopping does.

    Returns:
        The content of training.json: curves, best_epoch, seed, parameters, seconds.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    vocabulary = Vocabulary.load(Path(windows_dir) / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    torch.manual_seed(config.seed)
    counts = item_counts(splits["train"].histories, len(vocabulary))
    vectors = load_item_vectors(vectors_dir, vocabulary)
    model = SequentialRecommender(
        model_config,
        vectors.text,
        torch.from_numpy(log_popularity(counts)),
        vectors.image,
    )
    training = Training(model, splits, config, progress, log, stop)
    _run(training, config, checkpoint_dir)

    curves = training.curves
    if not all(math.isfinite(row["train_loss"]) for row in curves):
        raise KuberecError("the training loss is not finite: lower training.learning_rate")
    model.load_state_dict(training.best)
    record = {
        "curves": curves,
        "best_epoch": max(range(len(curves)), key=lambda epoch: curves[epoch][METRIC]),
        "metric": METRIC,
        "seed": config.seed,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seconds": sum(row["seconds"] for row in curves),
        "config": config.model_dump(),
    }
    if rank():
        return record
    with atomic_directory(out_dir) as draft:
        save_model(model, vocabulary.items, draft)
        write_json(draft / "training.json", record)
    if checkpoint_dir:
        shutil.rmtree(checkpoint_dir, ignore_errors=True)
    return record


def _run(training: Training, config: TrainingConfig, checkpoint_dir: Path | None) -> None:
    callbacks: list[lightning.Callback] = [
        EarlyStopping(METRIC, mode="max", patience=config.patience)
    ]
    resume = None
    if checkpoint_dir:
        # Lightning writes a checkpoint beside its place and renames it: a kill leaves the old one.
        callbacks.append(
            ModelCheckpoint(
                dirpath=checkpoint_dir,
                filename=CHECKPOINT,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            )
        )
        path = Path(checkpoint_dir) / f"{CHECKPOINT}.ckpt"
        resume = str(path) if path.is_file() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints about workers and loggers that we chose not to have
        trainer = lightning.Trainer(
            accelerator="auto",
            **placement(),
            use_distributed_sampler=False,  # each takes its share of a batch by itself
            max_epochs=config.epochs,
            gradient_clip_val=config.gradient_clip,
            deterministic="warn",
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=bool(checkpoint_dir),
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )
        trainer.fit(training, ckpt_path=resume, weights_only=True)
