"""fit(): train a SequentialRecommender on point-in-time windows with Lightning.

Under torchrun several processes train as one would: each takes its rows of every batch, so that a
batch, and with it the mathematics, is the same however many they are. Process 0 writes and speaks.
"""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping

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
from recommender.training.compiling import compiled
from recommender.training.determinism import explained_determinism
from recommender.training.memory import explained_memory
from recommender.training.module import METRIC, Log, Stop, Training
from recommender.training.parallel import placement, sharded
from recommender.training.precision import LIGHTNING, resolve
from recommender.training.ranks import rank
from recommender.training.resume import Resume, resume_file

# What it has to say about accelerators and its own cloud, `progress` says better or not at all.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


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
        The content of training.json: curves, best_epoch, seed, parameters, seconds, precision.

    Raises:
        KuberecError: data or settings do not fit each other or this machine (OutOfMemory among
            them), or the training failed (TrainingFailed). No model is written then.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = device_type()
    dtype = resolve(config.precision, device)
    vocabulary = Vocabulary.load(Path(windows_dir) / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    counts = item_counts(splits["train"].histories, len(vocabulary))
    vectors = load_item_vectors(vectors_dir, vocabulary)

    def make_model() -> SequentialRecommender:
        torch.manual_seed(config.seed)
        popularity = torch.from_numpy(log_popularity(counts))
        return SequentialRecommender(model_config, vectors.text, popularity, vectors.image)

    with explained_memory(model_config, config, len(vocabulary)):
        model = make_model()
        training = Training(
            model, splits, config, progress, dtype, pinned=device == "cuda", log=log, stop=stop
        )
        with compiled(model, config.compile, device), explained_determinism(config):
            _run(training, config, device, dtype, checkpoint_dir)

    curves = training.curves
    record = {
        "curves": curves,
        "best_epoch": max(range(len(curves)), key=lambda epoch: curves[epoch][METRIC]),
        "metric": METRIC,
        "seed": config.seed,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "seconds": sum(row["seconds"] for row in curves),
        "precision": str(dtype).removeprefix("torch."),
        "config": config.model_dump(),
    }
    if rank():
        return record
    if sharded(config):
        model = make_model()  # whole again
    model.load_state_dict(model.state_dict() | training.best)
    with atomic_directory(out_dir) as draft:
        save_model(model, vocabulary.items, draft)
        write_json(draft / "training.json", record)
    if checkpoint_dir:
        shutil.rmtree(checkpoint_dir, ignore_errors=True)
    return record


def device_type() -> str:
    """What training runs on here: a GPU if there is one."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _run(
    training: Training,
    config: TrainingConfig,
    device: str,
    dtype: torch.dtype,
    checkpoint_dir: Path | None,
) -> None:
    callbacks: list[lightning.Callback] = [
        EarlyStopping(METRIC, mode="max", patience=config.patience)
    ]
    if checkpoint_dir:
        callbacks.append(Resume(checkpoint_dir, config.checkpoint_steps, config.accumulate))
    # On a CPU what is deterministic costs nothing; on a GPU it does.
    where_it_can: Any = "warn" if device == "cpu" else False
    try:
        with warnings.catch_warnings():
            # Hints about workers and loggers that we chose not to have.
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                accelerator=device,
                **placement(config),
                precision=LIGHTNING[dtype],
                accumulate_grad_batches=config.accumulate,
                use_distributed_sampler=False,  # each takes its share of a batch by itself
                max_epochs=config.epochs,
                deterministic=True if config.deterministic else where_it_can,
                reload_dataloaders_every_n_epochs=1,
                num_sanity_val_steps=0,
                logger=False,
                enable_checkpointing=bool(checkpoint_dir),
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=callbacks,
            )
            trainer.fit(training, ckpt_path=resume_file(checkpoint_dir), weights_only=True)
    finally:
        training.batches.close()
