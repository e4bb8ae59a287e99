"""Stops a training that has gone wrong, and says where: not finite, or away from its best.

Losses stay on the device until a few are read at once: reading one waits for the GPU to be done.
"""

import math
from typing import Any

import torch
from torch import Tensor

from recommender.errors import KuberecError
from recommender.settings import TrainingConfig
from recommender.training.ranks import sum_over_processes, world_size

READ_EVERY = 20  # steps
# float16's scaler tries a gradient, finds it too large, halves its scale and tries the next: a few
# in a row are its way to work.
SCALER_TRIES = 30


class TrainingFailed(KuberecError):
    """The training cannot come to anything; no model was written."""


class Watch:
    """The losses of an epoch's steps, read in groups and checked.

    Args:
        steps_per_epoch: to say where in an epoch a step is.
        scaled: gradients are scaled (float16), so that some may be infinite.
    """

    def __init__(self, config: TrainingConfig, steps_per_epoch: int, scaled: bool = False) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.scaled = scaled
        self.losses: list[float] = []  # of this epoch
        self._unread: list[tuple[int, float, Tensor, Tensor]] = []
        self._best = math.inf
        self._smooth = math.nan
        self._above = 0
        self._infinite = 0

    def add(self, step: int, rate: float, loss: Tensor, norm: Tensor) -> bool:
        """Note an optimiser step (from 0); whether it is time to `read`.

        `loss`: this process's, a scalar on any device; `norm`: the gradient's, before clipping.
        """
        self._unread.append((step, rate, loss, norm))
        return len(self._unread) >= READ_EVERY

    def read(self) -> None:
        """Fetch and check what was added since. All processes call it after the same step.

        Raises:
            TrainingFailed: a loss or a gradient is not finite, or losses are far above their best.
        """
        if not self._unread:
            return
        steps, rates, losses, norms = zip(*self._unread, strict=True)
        self._unread = []
        table = torch.stack([torch.stack(losses).float(), torch.stack(norms).float()])
        values = (sum_over_processes(table) / world_size()).tolist()
        for step, rate, loss, norm in zip(steps, rates, *values, strict=True):
            self._check(step, rate, loss, norm)
            self.losses.append(loss)

    def start_epoch(self) -> None:
        self.losses = []

    def state_dict(self) -> dict[str, Any]:
        return {
            "losses": list(self.losses),
            "best": self._best,
            "smooth": self._smooth,
            "above": self._above,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])
        self._best, self._smooth = state["best"], state["smooth"]
        self._above = state["above"]

    def _check(self, step: int, rate: float, loss: float, norm: float) -> None:
        if not math.isfinite(loss):
            raise TrainingFailed(self._not_finite("loss", loss, step, rate))
        if not math.isfinite(norm):
            self._infinite += 1
            if not self.scaled or self._infinite > SCALER_TRIES:
                raise TrainingFailed(self._not_finite("gradient", norm, step, rate))
        else:
            self._infinite = 0
        # A batch is easy or hard: the mean over about twenty of them tells.
        start = math.isnan(self._smooth)
        self._smooth = loss if start else self._smooth + (loss - self._smooth) / READ_EVERY
        self._best = min(self._best, self._smooth)
        far = self._smooth > self.config.divergence_ratio * self._best
        self._above = self._above + 1 if far else 0
        if self._above >= self.config.divergence_patience:
            raise TrainingFailed(self._diverged(step, rate))

    def _place(self, step: int, rate: float) -> str:
        epoch, within = divmod(step, self.steps_per_epoch)
        return (
            f"at step {step + 1} (epoch {epoch + 1}, step {within + 1} of {self.steps_per_epoch}), "
            f"learning rate {rate:.3g}"
        )

    def _not_finite(self, what: str, value: float, step: int, rate: float) -> str:
        last = f"; the last finite loss was {self.losses[-1]:.4g}" if self.losses else ""
        lines = [
            f"training stopped: the {what} is {value} {self._place(step, rate)}{last}. No model "
            "was written.",
            f"  lower training.learning_rate (now {self.config.learning_rate:g}): "
            "`kuberec find-lr` suggests one",
            f"  raise training.warmup_epochs (now {self.config.warmup_epochs:g}), or lower "
            f"training.gradient_clip (now {self.config.gradient_clip:g})",
        ]
        if self.config.precision != "float32":
            lines.append(
                f"  training.precision: float32 (now {self.config.precision}) tells whether the "
                "number format is at fault"
            )
        lines.append(
            "  if it is the first step, look at the item vectors: one that is not finite is enough"
        )
        return "\n".join(lines)

    def _diverged(self, step: int, rate: float) -> str:
        config = self.config
        return "\n".join(
            [
                f"training stopped: it diverges {self._place(step, rate)}: the loss is "
                f"{self._smooth:.4g}, its best was {self._best:.4g}, and for {self._above} steps "
                f"it was over {config.divergence_ratio:g} times that. No model was written.",
                f"  lower training.learning_rate (now {config.learning_rate:g}): "
                "`kuberec find-lr` suggests one",
                f"  raise training.warmup_epochs (now {config.warmup_epochs:g}), or lower "
                f"training.gradient_clip (now {config.gradient_clip:g})",
                "  if such a rise is expected, raise training.divergence_ratio or "
                "training.divergence_patience",
            ]
        )
