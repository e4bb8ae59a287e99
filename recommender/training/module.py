"""The LightningModule: steps, validation, curves, and what a checkpoint carries.

Each position of a window predicts the next item. A moving average of the weights is what is
validated and kept.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recommender.evaluation.metrics import mask_history, rank_metrics, target_ranks
from recommender.model import SequentialRecommender
from recommender.progress import Progress
from recommender.sequences import Batch, Split, epoch_batches, pad
from recommender.settings import TrainingConfig
from recommender.training.averaging import averaged, update_average
from recommender.training.losses import softmax_loss
from recommender.training.ranks import gather, own_share, rank, world_size

METRIC = "ndcg@10"
# Given an epoch (from 0) and its row of the curves.
Log = Callable[[int, dict[str, float]], None]
Stop = Callable[[int, dict[str, float]], bool]


class Training(lightning.LightningModule):
    """The model, the moving average of its weights, and what was measured so far."""

    def __init__(
        self,
        model: SequentialRecommender,
        splits: dict[str, Split],
        config: TrainingConfig,
        progress: Progress,
        log: Log | None = None,
        stop: Stop | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.average = averaged(model)
        self.splits = splits
        self.config = config
        self.tell = progress
        self.log_row = log
        self.stop = stop
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self._losses: list[float] = []
        self._ranks: list[np.ndarray] = []
        self._started = 0.0

    def _epoch_batches(self, epoch: int) -> list[tuple[Batch, float]]:
        """Our rows of each batch, and how many of its positions a process has on average."""
        split = self.splits["train"]
        batches = epoch_batches(
            split.histories,
            self.model.config.max_length,
            self.config.batch_size,
            self.config.seed,
            epoch,
            self.config.reversed_share,
            times=split.times_for(self.model.config),
        )
        return [
            (
                Batch(
                    own_share(batch.history_BL),
                    own_share(batch.following_BL),
                    None if batch.times_BL is None else own_share(batch.times_BL),
                ),
                int((batch.following_BL > 0).sum()) / world_size(),
            )
            for batch in batches
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

    def training_step(self, batch: tuple[Batch, float], _: int) -> Tensor:
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
        times = split.times_for(self.model.config)
        times_BL = times and torch.from_numpy(
            pad([times[row] for row in rows.tolist()], self.model.config.max_length)
        ).to(self.device)
        scores_BN = self.average(history_BL.to(self.device), times_BL).float().cpu().numpy()
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
        stopped = not rank() and self._report(self.curves[-1], metrics[METRIC] > best)
        if self.stop and any(gather([stopped])):
            self.trainer.should_stop = True

    def _report(self, row: dict[str, float], better: bool) -> bool:
        """Process 0's words about an epoch; whether `stop` wants it to be the last."""
        self.tell(
            self.current_epoch + 1,
            self.config.epochs,
            f"loss {row['train_loss']:.3f}, valid NDCG@10 {row[METRIC]:.4f}, "
            f"HR@10 {row['hr@10']:.4f}{' *' if better else ''}",
        )
        if self.log_row:
            self.log_row(self.current_epoch, dict(row))
        return bool(self.stop and self.stop(self.current_epoch, dict(row)))

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
    batch: Batch,
    positions: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy over all items, summed over the positions that have a next item (> 0).

    Args:
        positions: what the sum is divided by: their number, for a mean. Where processes share a
            batch it is their mean number, so that the mean of the losses is that of the batch.
    """
    table_ND = model.item_table()
    learnt_BL = batch.following_BL > 0
    hidden_BLD = model.encode(
        batch.history_BL, table_ND, times_BL=batch.times_BL, right_padded=True
    )
    following_M = batch.following_BL[learnt_BL] - 1
    total = softmax_loss(hidden_BLD[learnt_BL], table_ND[1:], following_M, label_smoothing)
    return total / positions
