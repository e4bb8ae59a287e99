"""The LightningModule: steps, validation, curves, and what a checkpoint carries.

Each position of a window predicts the next item. A moving average of the weights is what is
validated and kept.
"""

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recommender.evaluation.metrics import rank_metrics, users_at_once
from recommender.model import SequentialRecommender
from recommender.progress import Progress
from recommender.sequences import Batch, Split
from recommender.settings import TrainingConfig
from recommender.training.averaging import averaged, update_average
from recommender.training.batches import Batches, EpochPieces, Piece, validation_rows
from recommender.training.chunked_ranks import AT_ONCE, ranks_in_chunks
from recommender.training.losses import softmax_loss
from recommender.training.optimizer import make_optimizer, rate_at, set_rate
from recommender.training.parallel import constant_names, shard, sharded, whole_state
from recommender.training.ranks import gather, own_share, rank, world_size
from recommender.training.row_optimizer import (
    clip_gradients,
    require_one_process,
    row_tables,
    use_sparse_rows,
)
from recommender.training.sampled_softmax import NegativeSampler, sampled_next_item_loss
from recommender.training.validation import ranks_of
from recommender.training.watch import Watch

METRIC = "ndcg@10"
TELL_EVERY_S = 5.0  # within an epoch
# Given an epoch (from 0) and its row of the curves.
Log = Callable[[int, dict[str, float]], None]
Stop = Callable[[int, dict[str, float]], bool]


class Objective(nn.Module):
    """The loss as a forward pass, which is where shared-out weights are put together."""

    def __init__(self, model: SequentialRecommender, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.sampler: NegativeSampler | None = None
        if config.loss == "sampled-softmax":
            require_one_process(world_size())
            use_sparse_rows(model)
            self.sampler = NegativeSampler(model.log_popularity, config.negatives, config.seed)

    def forward(self, batch: Batch, positions: float, step: int = 0) -> Tensor:
        if self.sampler is not None:
            negative_S = self.sampler.draw(step).to(batch.history_BL.device)
            expected_S = self.sampler.log_expected(negative_S)
            return sampled_next_item_loss(self.model, batch, negative_S, expected_S) / positions
        return next_item_loss(
            self.model, batch, positions, label_smoothing=self.config.label_smoothing
        )


class Training(lightning.LightningModule):
    """The model, the moving average of its weights, and what was measured so far.

    Args:
        dtype: of the matrix products.
        pinned: batches lie in page-locked memory.
        log, stop: as of `fit`.
    """

    def __init__(
        self,
        model: SequentialRecommender,
        splits: dict[str, Split],
        config: TrainingConfig,
        progress: Progress,
        dtype: torch.dtype = torch.float32,
        pinned: bool = False,
        log: Log | None = None,
        stop: Stop | None = None,
    ) -> None:
        super().__init__()
        self.objective = Objective(model, config)
        self.average = averaged(model)
        # Written and copied by no checkpoint: of a pretrained decoder it is nearly everything.
        self.constant = set() if sharded(config) else constant_names(model)
        self.splits = splits
        self.config = config
        self.tell = progress
        self.log_row = log
        self.stop = stop
        self.scaled = dtype == torch.float16
        self.batches = Batches(splits["train"], model.config, config, pinned)
        self.watch = Watch(config, self.batches.steps_per_epoch, self.scaled)
        self.curves: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self._ranks: list[np.ndarray] = []
        self._loss = self._norm = torch.zeros(())
        self._windows = 0  # of this epoch, in all processes
        self._started, self._elapsed_s = 0.0, 0.0  # elapsed before a resumed epoch's start
        self._told = 0.0

    @property
    def model(self) -> SequentialRecommender:
        return self.objective.model

    def configure_model(self) -> None:
        if sharded(self.config) and self.device_mesh is not None:
            mesh = self.device_mesh["data_parallel"]
            shard(self.model, self.objective, mesh)
            shard(self.average, self.average, mesh, keep=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.model, self.config, fused=not self.scaled)

    def train_dataloader(self) -> EpochPieces:
        return self.batches.epoch(self.current_epoch)

    def val_dataloader(self) -> DataLoader:
        items = len(self.model.log_popularity) - 1
        chunked = self.config.loss == "sampled-softmax"
        return validation_rows(self.splits["valid"], AT_ONCE if chunked else users_at_once(items))

    def on_train_start(self) -> None:
        self._started = self._told = time.monotonic()
        # Killed between the last epoch and the end: there is nothing left to train.
        best = max(range(len(self.curves)), key=lambda e: self.curves[e][METRIC], default=0)
        if len(self.curves) - 1 - best >= self.config.patience:
            self.trainer.should_stop = True

    def on_train_epoch_start(self) -> None:
        self._started, self._elapsed_s, self._windows = time.monotonic(), 0.0, 0
        self.watch.start_epoch()

    def training_step(self, piece: Piece, index: int) -> Tensor:
        # Dropout depends on seed, step and process alone, so that a resumed run repeats it.
        pieces = self.config.accumulate
        number = self.global_step * pieces + index % pieces
        torch.manual_seed(self.config.seed * 1_000_003 + number + 10**9 * rank())
        loss = self.objective(piece.batch, piece.positions, self.global_step)
        self._loss = loss.detach() if index % pieces == 0 else self._loss + loss.detach()
        self._windows += piece.windows
        return loss * pieces if pieces > 1 else loss  # Lightning divides by their number

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        clip = clip_gradients if row_tables(self.model) else nn.utils.clip_grad_norm_
        norm = clip(trained, self.config.gradient_clip)
        self._norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        step = self.global_step
        rate = rate_at(step, self.batches.steps_per_epoch, self.config)
        set_rate(optimizer, rate)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        update_average(self.average, self.model, step + 1, self.config.average_decay)
        if self.watch.add(step, rate, self._loss, self._norm):
            self._read()

    def _read(self) -> None:
        """Losses from the device, and now and then a word about them."""
        self.watch.read()
        now = time.monotonic()
        done, of = len(self.watch.losses), self.batches.steps_per_epoch
        if rank() or now - self._told < TELL_EVERY_S or not 0 < done < of:
            return
        self._told = now
        self.tell(
            self.current_epoch,
            self.config.epochs,
            f"step {done} of {of}, loss {np.mean(self.watch.losses[-100:]):.3f}, "
            f"{self._windows / max(self._seconds(), 1e-9):,.0f} windows/s",
        )

    def _seconds(self) -> float:
        return self._elapsed_s + time.monotonic() - self._started

    def on_validation_start(self) -> None:
        self._read()
        self._trained_s = self._seconds()

    def validation_step(self, rows: list[int], _: int) -> None:
        split = self.splits["valid"]
        # Whole precision: what bfloat16 rounds to the same score would be ties.
        with torch.autocast(self.device.type, enabled=False):
            ranks = ranks_in_chunks if self.objective.sampler else ranks_of
            self._ranks.append(ranks(self.average, split, own_share(rows), self.device))

    def on_validation_epoch_end(self) -> None:
        metrics = rank_metrics(np.concatenate(gather(self._ranks)), cutoffs=(10,))
        self._ranks = []
        self.log(METRIC, metrics[METRIC])
        best = max((row[METRIC] for row in self.curves), default=-1.0)
        self.curves.append(
            {
                "epoch": self.current_epoch,
                "train_loss": float(np.mean(self.watch.losses)),
                **metrics,
                "learning_rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
                "windows_per_second": self._windows / self._trained_s,
                "seconds": self._seconds(),
            }
        )
        if metrics[METRIC] > best:
            self.best = whole_state(self.average, without=self.constant)
        stopped = not rank() and self._report(self.curves[-1], metrics[METRIC] > best)
        if self.stop and any(gather([stopped])):
            self.trainer.should_stop = True

    def _report(self, row: dict[str, float], better: bool) -> bool:
        """Process 0's words about an epoch; whether `stop` wants it to be the last."""
        self._told = time.monotonic()
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
        self._read()  # what is not finite is not saved
        for name in self._constant_keys():
            checkpoint["state_dict"].pop(name, None)
        checkpoint["kuberec"] = {
            "curves": self.curves,
            "best": self.best,
            "watch": self.watch.state_dict(),
            "windows": self._windows,
            "seconds": self._seconds(),
        }

    def _constant_keys(self) -> set[str]:
        places = "objective.model", "average"
        return {f"{place}.{name}" for place in places for name in self.constant}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.constant:  # of shared-out weights nothing is, and their strategy has loaded them
            own = self.state_dict()
            checkpoint["state_dict"] |= {
                name: own[name] for name in self._constant_keys() & set(own)
            }
        state = checkpoint["kuberec"]
        self.curves, self.best = state["curves"], state["best"]
        self.watch.load_state_dict(state["watch"])
        self._windows, self._elapsed_s = state["windows"], state["seconds"]


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
