"""A smaller model learns the full model's scores: the training of every compression step."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from recommender.compression.hidden_states import HiddenStates, captured
from recommender.compression.losses import score_loss
from recommender.compression.soundness import require_finite
from recommender.compression.sparsity import keeping_zeros
from recommender.errors import KuberecError
from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Split, epoch_batches
from recommender.settings import LearningConfig
from recommender.training.averaging import averaged, update_average
from recommender.training.precision import resolve

METRIC = "ndcg@10"
TELL_EVERY_S = 5.0  # within an epoch
CLIP = 1.0  # largest norm of a gradient


class LearningFailed(KuberecError):
    """The loss or its gradient is not a finite number; no model came of it."""


def learn(
    student: SequentialRecommender,
    teacher: SequentialRecommender,
    splits: dict[str, Split],
    config: LearningConfig,
    progress: Progress = silent,
    after_step: Callable[[SequentialRecommender], None] | None = None,
    name: str = "student",
) -> tuple[SequentialRecommender, list[dict[str, float]]]:
    """Train `student` in place; itself after the last epoch, and its curve.

    No epoch is selected: the teacher's scores are the aim, and they do not wear out; validation
    NDCG@10 is for the reader. The weights are averaged as in training. Items are dropped from
    the windows: on histories that it was trained on, the teacher repeats what it knows by heart.
    The same seed gives the same bytes on like machines, with as many threads. It runs where the
    student's weights are.

    A layer that is 2:4 sparse keeps its zeros.

    Args:
        after_step: called with the student after each optimiser step, and with its average at the
            end: for what must hold of the weights, like zeros.
        name: of the student, in what progress is told.

    Raises:
        LearningFailed: a loss or a gradient is not finite.
        KuberecError: a weight of student or teacher is not.
    """
    require_finite(teacher, "the full model")
    require_finite(student, name)
    after_step = keeping_zeros(student, after_step)
    with _threads(config.threads):
        return _Learning(student, teacher, splits, config, progress, after_step, name).run()


def with_dropout(model: SequentialRecommender, dropout: float) -> SequentialRecommender:
    """A copy with another dropout, in its config too."""
    other = copy.deepcopy(model)
    other.config = model.config.model_copy(update={"dropout": dropout})
    for part in other.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
    return other


class _Learning:
    def __init__(
        self,
        student: SequentialRecommender,
        teacher: SequentialRecommender,
        splits: dict[str, Split],
        config: LearningConfig,
        progress: Progress,
        after_step: Callable[[SequentialRecommender], None] | None,
        name: str,
    ) -> None:
        torch.manual_seed(config.seed)
        self.student, self.teacher = student, teacher.eval()
        self.splits, self.config = splits, config
        self.tell, self.after_step, self.name = progress, after_step, name
        self.device = next(student.parameters()).device.type
        self.dtype = resolve(config.precision, self.device)
        self.average = averaged(student)
        with torch.no_grad():
            self.teacher_items = teacher.item_table()
        self.hidden: HiddenStates | None = None
        if config.hidden_weight:
            example_BL = torch.ones(1, 2, dtype=torch.int64, device=self.device)
            self.hidden = HiddenStates(student, teacher, config.hidden_loss, example_BL)
            self.hidden.to(self.device)
        trained = list(student.parameters()) + list(self.hidden.parameters() if self.hidden else [])
        self.optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.01)
        self.step = 0
        self.told = time.monotonic()

    def run(self) -> tuple[SequentialRecommender, list[dict[str, float]]]:
        curve = [self.epoch(epoch) for epoch in range(self.config.epochs)]
        self.student.load_state_dict(self.average.state_dict())
        if self.after_step is not None:
            self.after_step(self.student)
        return self.student.eval(), curve

    def epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training histories; its row of the curve."""
        config = self.config
        self.student.train()
        batches = epoch_batches(
            self.splits["train"].histories,
            self.student.config.max_length,
            config.batch_size,
            config.seed,
            epoch,
            config.reversed_share,
            config.dropped_share,
            self.splits["train"].times_for(self.teacher.config),
        )
        sums: dict[str, float] = {}
        started = time.monotonic()
        for done, batch in enumerate(batches, start=1):
            self.set_rate(len(batches))
            terms = self.losses(batch)
            values = self.descend(terms, epoch, done, len(batches))
            for term, value in values.items():
                sums[term] = sums.get(term, 0.0) + value
            now = time.monotonic()
            if now - self.told >= TELL_EVERY_S and done < len(batches):
                self.told = now
                self.tell(
                    epoch,
                    config.epochs,
                    f"{self.name}: step {done} of {len(batches)}, loss "
                    f"{sums['train_loss'] / done:.3f}, {done / (now - started):.1f} batches/s",
                )
        means = {term: total / len(batches) for term, total in sums.items()}
        metrics = evaluate_scorer(
            model_scorer(self.average), self.splits["valid"], len(self.teacher_items) - 1
        )
        self.told = time.monotonic()
        self.tell(
            epoch + 1,
            config.epochs,
            f"{self.name}: loss {means['train_loss']:.3f}, valid NDCG@10 {metrics[METRIC]:.4f}",
        )
        return {"epoch": epoch, **means, **metrics}

    def set_rate(self, steps_per_epoch: int) -> None:
        """A linear rise over the first epoch, times a cosine over all."""
        done = self.step / (self.config.epochs * steps_per_epoch)
        rising = min(1.0, (self.step + 1) / steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rising * (1 + math.cos(math.pi * done)) / 2

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss by name; `train_loss` is all of it."""
        config = self.config
        batch = Batch(*(None if part is None else part.to(self.device) for part in batch))  # type: ignore[arg-type]
        learnt_BL = batch.following_BL > 0
        following_M = batch.following_BL[learnt_BL] - 1
        mixed = torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)
        with mixed, _maybe_captured(self.teacher, self.hidden) as teacher_states:
            with torch.inference_mode():
                teacher_BLE = _read(self.teacher, batch, self.teacher_items)
            # Outside of inference mode, a choice of rows is a tensor that gradients may read.
            teacher_ME = teacher_BLE[learnt_BL]
        with mixed, _maybe_captured(self.student, self.hidden) as student_states:
            items_ND = self.student.item_table()
            hidden_MD = _read(self.student, batch, items_ND)[learnt_BL]
            loss = score_loss(
                hidden_MD, items_ND[1:], teacher_ME, self.teacher_items[1:], following_M, config
            )
            if self.hidden is None:
                return {"train_loss": loss}
            states = self.hidden(student_states, teacher_states, learnt_BL)
        return {"train_loss": loss + config.hidden_weight * states, "hidden_loss": states}

    def descend(self, terms: dict[str, Tensor], epoch: int, done: int, of: int) -> dict[str, float]:
        """One optimiser step; the terms' values."""
        values = {name: float(term.detach()) for name, term in terms.items()}
        self.optimizer.zero_grad(set_to_none=True)
        terms["train_loss"].backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.student.parameters(), CLIP))
        for what, value in (("loss", values["train_loss"]), ("gradient's norm", norm)):
            if not math.isfinite(value):
                raise LearningFailed(self.not_finite(what, value, epoch, done, of))
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step(self.student)
        self.step += 1
        update_average(self.average, self.student, self.step, self.config.average_decay)
        return values

    def not_finite(self, what: str, value: float, epoch: int, done: int, of: int) -> str:
        rate = self.optimizer.param_groups[0]["lr"]
        lines = [
            f"{self.name}: the {what} is {value} at epoch {epoch + 1} of {self.config.epochs}, "
            f"step {done} of {of}, learning rate {rate:.3g}. Nothing was written.",
            f"  lower the step's learning_rate (now {self.config.learning_rate:g})",
        ]
        if self.dtype != torch.float32:
            lines.append(
                f"  precision: float32 (now {self.config.precision}) tells whether the number "
                "format is at fault"
            )
        return "\n".join(lines)


def _read(model: SequentialRecommender, batch: Batch, table: Tensor) -> Tensor:
    return model.encode(batch.history_BL, table, times_BL=batch.times_BL, right_padded=True)


def _maybe_captured(model: SequentialRecommender, wanted: HiddenStates | None) -> Any:
    return nullcontext([]) if wanted is None else captured(model)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many of torch's threads within the block; 0: as many as there are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
