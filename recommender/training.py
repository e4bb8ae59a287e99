"""fit(): train a SequentialRecommender on point-in-time windows with Lightning.

Each position of a window predicts the next item by full softmax cross-entropy. A moving average
of the weights is what is validated and kept.

Under torchrun several processes train as one would: each takes its rows of every batch, so that a
batch, and with it the mathematics, is the same however many they are. Process 0 writes and speaks.
"""

import logging
import math
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from recommender.averaging import averaged, update_average
from recommender.errors import KuberecError
from recommender.evaluation import mask_history, rank_metrics, target_ranks
from recommender.files import atomic_directory, write_json
from recommender.item_inputs import load_item_vectors
from recommender.model import SequentialRecommender, save_model
from recommender.progress import Progress, silent
from recommender.ranks import gather, own_share, placement, rank, world_size
from recommender.sequences import (
    Split,
    Vocabulary,
    epoch_batches,
    item_counts,
    load_windows,
    log_popularity,
    pad,
)
from recommender.settings import ModelConfig, TrainingConfig

# What it has to say about accelerators and its own cloud, `progress` says better or not at all.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

METRIC = "ndcg@10"
CHECKPOINT = "last"  # .ckpt, a temporary resume file, read with weights_only


class Training(lightning.LightningModule):
    """The model, the moving average of its weights, and what was measured so far."""

    def __init__(
        self,
        model: SequentialRecommender,
        splits: dict[str, Split],
        config: TrainingConfig,
        progress: Progress,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = averaged(model)
        self.splits = splits
        self.config = config
        self.tell = progress
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._ranks: list[np.ndarray] = []
        self._started = 0.0

    def _epoch_batches(self, epoch: int) -> list[tuple[Tensor, Tensor, float]]:
        """Our rows of each batch, and how many of its positions a process has on average."""
        batches = epoch_batches(
            self.splits["train"].histories,
            self.model.config.max_length,
            self.config.batch_size,
            self.config.seed,
            epoch,
            self.config.reversed_share,
        )
        return [
            (own_share(history), own_share(following), int((following > 0).sum()) / world_size())
            for history, following in batches
        ]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self._epoch_batches(self.current_epoch), batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader:
        return DataLoader(own_share(range(len(self.splits["valid"]))), batch_size=256)

    def configure_optimizers(self) -> Any:
        matrices = [weight for weight in self.model.parameters() if weight.ndim > 1]
        rest = [weight for weight in self.model.parameters() if weight.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.config.weight_decay},
                {"params": rest, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            betas=(0.9, 0.98),
        )
        steps = len(self._epoch_batches(0))
        warmup = self.config.warmup_epochs * steps
        total = max(self.config.epochs * steps, 1)

        def factor(step: int) -> float:
            done = min(max(step - warmup, 0) / max(total - warmup, 1), 1)
            return min(1.0, (step + 1) / max(warmup, 1)) * 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_train_epoch_start(self) -> None:
        self._started = time.monotonic()
        self._losses = []

    def training_step(self, batch: tuple[Tensor, Tensor, float], _: int) -> Tensor:
        # Dropout depends on seed, step and process alone, so that a resumed run repeats it.
        torch.manual_seed(self.config.seed * 1_000_003 + self.global_step + 10**9 * rank())
        loss = next_item_loss(self.model, *batch, label_smoothing=self.config.label_smoothing)
        self._losses.append(float(loss.detach()))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        update_average(self.average, self.model, self.global_step, self.config.average_decay)

    def validation_step(self, rows: Tensor, _: int) -> None:
        split = self.splits["valid"]
        histories = [split.histories[row] for row in rows.tolist()]
        targets_B = split.targets[rows.cpu().numpy()]
        history_BL = torch.from_numpy(pad(histories, self.model.config.max_length))
        scores_BN = self.average(history_BL.to(self.device)).float().cpu().numpy()
        self._ranks.append(target_ranks(mask_history(scores_BN, histories, targets_B), targets_B))

    def on_validation_epoch_end(self) -> None:
        metrics = rank_metrics(np.concatenate(gather(self._ranks)), cutoffs=(10,))
        self._ranks = []
        loss = float(np.mean(gather(self._losses)))
        self.log(METRIC, metrics[METRIC])
        best = max((row[METRIC] for row in self.curves), default=-1.0)
        self.curves.append(
            {
                "epoch": self.current_epoch,
                "train_loss": loss,
                **metrics,
                "learning_rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
                "seconds": time.monotonic() - self._started,
            }
        )
        if metrics[METRIC] > best:
            self.best = {k: v.detach().cpu().clone() for k, v in self.average.state_dict().items()}
        row = self.curves[-1]
        if rank():
            return
        self.tell(
            self.current_epoch + 1,
            self.config.epochs,
            f"loss {row['train_loss']:.3f}, valid NDCG@10 {row[METRIC]:.4f}, "
            f"HR@10 {row['hr@10']:.4f}{' *' if metrics[METRIC] > best else ''}",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["kuberec"] = {"curves": self.curves, "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = checkpoint["kuberec"]["curves"]
        self.best = checkpoint["kuberec"]["best"]

    def on_train_start(self) -> None:
        # Killed between the last epoch and the end: there is nothing left to train.
        best = max(range(len(self.curves)), key=lambda e: self.curves[e][METRIC], default=0)
        if len(self.curves) - 1 - best >= self.config.patience:
            self.trainer.should_stop = True


def next_item_loss(
    model: SequentialRecommender,
    history_BL: Tensor,
    next_BL: Tensor,
    positions: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy over all items, summed over the positions that have a next item (> 0).

    Args:
        positions: what the sum is divided by: their number, for a mean. Where processes share a
            batch it is their mean number, so that the mean of the losses is that of the batch.
    """
    table_ND = model.item_table()
    learnt_BL = next_BL > 0
    hidden_MD = model.encode(history_BL, table_ND)[learnt_BL]
    logits_MN = hidden_MD @ table_ND[1:].T
    total = functional.cross_entropy(
        logits_MN, next_BL[learnt_BL] - 1, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / positions


def fit(
    windows_dir: Path,
    vectors_dir: Path,
    model_config: ModelConfig,
    config: TrainingConfig,
    out_dir: Path,
    checkpoint_dir: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train, and write the best epoch's model to `out_dir` (model/ of the design).

    Under torchrun every process calls this with the same arguments and the same files.

    Args:
        checkpoint_dir: where a killed run leaves its state; the next one with the same folder
            goes on from there. The caller names it by everything that the result depends on. It
            is removed at the end.

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
    training = Training(model, splits, config, progress)
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
