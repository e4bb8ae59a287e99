"""A smaller student that learns from the full model's scores."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Split, epoch_batches
from recommender.settings import DistillationConfig, ModelConfig
from recommender.training.averaging import averaged, update_average

METRIC = "ndcg@10"


def make_student(
    teacher: SequentialRecommender, config: DistillationConfig
) -> SequentialRecommender:
    """An untrained student that starts from what fits of its teacher.

    As wide as the teacher it takes over the items and evenly spaced blocks (DistilBERT, Sanh et
    al. 2019, arXiv:1910.01108, section 3); narrower, its item embeddings are the teacher's main
    directions (truncated SVD, Eckart and Young 1936). Of a Hugging Face decoder the student is a
    Transformer: the decoder's own blocks would be as wide as it is.
    """
    full = teacher.config
    narrower = config.dim is not None and config.dim != full.dim
    shape = ModelConfig.model_validate(
        full.model_dump()
        | {
            "dim": config.dim or full.dim,
            "layers": config.layers,
            "heads": config.heads or full.heads,
            "feedforward": config.feedforward or full.feedforward,
            "dropout": config.dropout,
        }
        | ({"backbone": "transformer", "hf": None} if full.backbone == "hf" else {})
        # Texts are in the directions that a narrower student starts from: nothing to weigh.
        | ({"fusion": "sum"} if narrower else {})
    )
    student = SequentialRecommender(
        shape, teacher.text_vectors, teacher.log_popularity, teacher.image_vectors
    )
    if shape.dim == full.dim:
        _take_over(teacher, student)
        return student
    with torch.no_grad():
        left_NR, singular_R, _ = torch.linalg.svd(teacher.item_table(), full_matrices=False)
        width = min(shape.dim, len(singular_R))
        student.id_embedding.weight[:, :width] = left_NR[:, :width] * singular_R[:width]
        # Texts and images are in the directions already: their own projections start from nothing.
        if student.text_projection is not None:
            student.text_projection.weight.zero_()
        if student.image is not None:
            student.image.projection.weight.zero_()
    return student


def _take_over(teacher: SequentialRecommender, student: SequentialRecommender) -> None:
    """Copy every weight whose place and shape the student shares with the teacher."""
    last, layers = teacher.config.layers - 1, student.config.layers
    weights = teacher.state_dict()
    for name, value in student.state_dict().items():
        source = name
        if name.startswith("backbone.blocks."):
            _, _, layer, rest = name.split(".", 3)
            source = f"backbone.blocks.{round(int(layer) * last / max(layers - 1, 1))}.{rest}"
        if source in weights and weights[source].shape == value.shape:
            value.copy_(weights[source])


def distillation_loss(
    student_MN: Tensor, teacher_MN: Tensor, next_M: Tensor, config: DistillationConfig
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


def distil(
    teacher: SequentialRecommender,
    splits: dict[str, Split],
    config: DistillationConfig,
    progress: Progress = silent,
) -> tuple[SequentialRecommender, list[dict[str, float]]]:
    """The student after the last epoch, and its curve.

    No epoch is selected: the teacher's scores are the aim, and they do not wear out; validation
    NDCG@10 is for the reader. The weights are averaged as in training. Items are dropped from
    the windows: on histories that it was trained on, the teacher repeats what it knows by heart.
    """
    torch.manual_seed(config.seed)
    teacher.eval()
    student = make_student(teacher, config)
    average = averaged(student)
    items = teacher.text_vectors.shape[0] - 1
    length = teacher.config.max_length
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
            step += 1
            update_average(average, student, step, config.average_decay)
            loss_sum += float(loss.detach())
        metrics = evaluate_scorer(model_scorer(average), splits["valid"], items)
        curve.append({"epoch": epoch, "train_loss": loss_sum / len(batches), **metrics})
        progress(
            epoch + 1,
            config.epochs,
            f"student: loss {loss_sum / len(batches):.3f}, valid NDCG@10 {metrics[METRIC]:.4f}",
        )
    student.load_state_dict(average.state_dict())
    return student.eval(), curve


def _logits(model: Any, batch: Batch) -> Tensor:
    """Of the positions that have a next item, [M, N], from item 1 on."""
    table_ND = model.item_table()
    hidden_BLD = model.encode(
        batch.history_BL, table_ND, times_BL=batch.times_BL, right_padded=True
    )
    return hidden_BLD[batch.following_BL > 0] @ table_ND[1:].T
