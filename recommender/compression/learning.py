"""A smaller model learns the full model's scores: the training of every compression step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Split, epoch_batches
from recommender.settings import LearningConfig
from recommender.training.averaging import averaged, update_average

METRIC = "ndcg@10"


def distillation_loss(
    student_MN: Tensor, teacher_MN: Tensor, next_M: Tensor, config: LearningConfig
) -> Tensor:
    """soft_share · T² · KL(teacher ‖ student) + (1 - soft_share) · cross-entropy of the next item.

    Both softmaxes at temperature T; T² keeps the gradients' size (Hinton, Vinyals and Dean 2015,
    arXiv:1503.02531, section 2). Logits [M, N] and next items [M] count from item 1 as 0.
    """
    temperature = config.temperature
    soft = functional.kl_div(
        functional.log_softmax(student_MN / temperature, dim=-1),
        functional.log_softmax(teacher_MN / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(student_MN, next_M)
    return config.soft_share * temperature**2 * soft + (1 - config.soft_share) * hard


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

    Args:
        after_step: called with the student after each optimiser step, and with its average at the
            end: for what must hold of the weights, like zeros.
        name: of the student, in what progress is told.
    """
    torch.manual_seed(config.seed)
    teacher.eval()
    average = averaged(student)
    items = teacher.text_vectors.shape[0] - 1
    length = student.config.max_length
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=0.01)
    curve: list[dict[str, float]] = []
    step = 0
    for epoch in range(config.epochs):
        student.train()
        batches = epoch_batches(
            splits["train"].histories,
            length,
            config.batch_size,
            config.seed,
            epoch,
            config.reversed_share,
            config.dropped_share,
            splits["train"].times_for(teacher.config),
        )
        loss_sum = 0.0
        for batch in batches:
            done = step / (config.epochs * len(batches))
            for group in optimizer.param_groups:
                rising = min(1.0, (step + 1) / len(batches))
                group["lr"] = config.learning_rate * rising * (1 + math.cos(math.pi * done)) / 2
            following_M = batch.following_BL[batch.following_BL > 0] - 1
            with torch.no_grad():
                teacher_MN = _logits(teacher, batch)
            loss = distillation_loss(_logits(student, batch), teacher_MN, following_M, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            if after_step is not None:
                after_step(student)
            step += 1
            update_average(average, student, step, config.average_decay)
            loss_sum += float(loss.detach())
        metrics = evaluate_scorer(model_scorer(average), splits["valid"], items)
        curve.append({"epoch": epoch, "train_loss": loss_sum / len(batches), **metrics})
        progress(
            epoch + 1,
            config.epochs,
            f"{name}: loss {loss_sum / len(batches):.3f}, valid NDCG@10 {metrics[METRIC]:.4f}",
        )
    student.load_state_dict(average.state_dict())
    if after_step is not None:
        after_step(student)
    return student.eval(), curve


def _logits(model: Any, batch: Batch) -> Tensor:
    """Of the positions that have a next item, [M, N], from item 1 on."""
    table_ND = model.item_table()
    hidden_BLD = model.encode(
        batch.history_BL, table_ND, times_BL=batch.times_BL, right_padded=True
    )
    return hidden_BLD[batch.following_BL > 0] @ table_ND[1:].T
