"""The learning-rate range test: how the loss goes while the rate rises (Smith 2017, 1506.01186).

From a rate at which nothing is learnt, exponentially up to one that tears the model apart; what
lies well below the tear is worth trying.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recommender.errors import KuberecError
from recommender.item_inputs import load_item_vectors
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Batch, Vocabulary, item_counts, load_windows, log_popularity
from recommender.settings import ModelConfig, TrainingConfig
from recommender.training.batches import Batches
from recommender.training.memory import explained_memory
from recommender.training.module import Objective
from recommender.training.optimizer import make_optimizer, set_rate
from recommender.training.precision import resolve
from recommender.training.ranks import world_size
from recommender.training.row_optimizer import clip_gradients

SMOOTHING = 0.9  # of the losses' running mean
TORN = 2.0  # a loss so many times its best ends the test
FALL = 0.01  # of the first loss: less is the batches' own difference
FEWEST = 20  # steps, below which there is no curve


@dataclass(frozen=True)
class RateTest:
    """`losses` (smoothed) by learning rate; `suggestion`: below where they fall fastest."""

    rates: list[float]
    losses: list[float]
    suggestion: float
    best: float  # the rate of the lowest loss: already near the tear


def find_rate(
    windows_dir: Path,
    vectors_dir: Path,
    model_config: ModelConfig,
    config: TrainingConfig,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 150,
    progress: Progress = silent,
) -> RateTest:
    """Test rates on the model that `fit` would start from; nothing of it is kept.

    Args:
        steps: optimiser steps between `lowest` and `highest`; fewer are run if the loss tears.

    Raises:
        KuberecError: the data or settings do not fit, or no loss falls.
    """
    if world_size() > 1:
        raise KuberecError("the learning-rate test runs as one process: start it without torchrun")
    if not 0 < lowest < highest:
        raise KuberecError(f"lowest rate {lowest:g} and highest {highest:g}: 0 < lowest < highest")
    if steps < FEWEST:
        raise KuberecError(f"{steps} steps are too few for a curve: give {FEWEST} or more")
    if config.threads:
        torch.set_num_threads(config.threads)
    vocabulary = Vocabulary.load(Path(windows_dir) / "vocabulary.json")
    split = load_windows(windows_dir, vocabulary)["train"]
    vectors = load_item_vectors(vectors_dir, vocabulary)
    popularity = torch.from_numpy(log_popularity(item_counts(split.histories, len(vocabulary))))
    torch.manual_seed(config.seed)
    with explained_memory(model_config, config, len(vocabulary)):
        model = SequentialRecommender(model_config, vectors.text, popularity, vectors.image)
        batches = Batches(split, model_config, config)
        try:
            return range_test(model, batches, config, lowest, highest, steps, progress)
        finally:
            batches.close()


def range_test(
    model: SequentialRecommender,
    batches: Batches,
    config: TrainingConfig,
    lowest: float,
    highest: float,
    steps: int,
    progress: Progress = silent,
) -> RateTest:
    """The test on a copy of `model`, which stays as it is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # No scaler here: float16's gradients would vanish, and bfloat16 shows the same curve.
    precision = "auto" if config.precision == "float16" else config.precision
    dtype = resolve(precision, device)
    objective = Objective(copy.deepcopy(model), config).to(device).train()
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = make_optimizer(objective.model, config)
    rates: list[float] = []
    losses: list[float] = []
    running, epoch, pieces = 0.0, 0, list(batches.epoch(0))
    for step in range(steps):
        if len(pieces) < config.accumulate:
            epoch += 1
            pieces += batches.epoch(epoch)
        rate = lowest * (highest / lowest) ** (step / (steps - 1))
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        loss = 0.0
        for _ in range(config.accumulate):
            piece = pieces.pop(0)
            batch = _to(piece.batch, device)
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                part = objective(batch, piece.positions, step)
            part.backward()
            loss += float(part.detach())
        clip_gradients(trained, config.gradient_clip)
        running = SMOOTHING * running + (1 - SMOOTHING) * loss
        smooth = running / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smooth) or (losses and smooth > TORN * min(losses)):
            break
        rates.append(rate)
        losses.append(smooth)
        optimizer.step()
        if (step + 1) % 25 == 0:
            progress(step + 1, steps, f"learning rate {rate:.2g}, loss {smooth:.3f}")
    return _read(rates, losses)


def _to(batch: Batch, device: str) -> Batch:
    times_BL = None if batch.times_BL is None else batch.times_BL.to(device)
    return Batch(batch.history_BL.to(device), batch.following_BL.to(device), times_BL)


def _read(rates: Sequence[float], losses: Sequence[float]) -> RateTest:
    """The suggestion: where the loss falls fastest, but a tenth of where it is lowest at most.

    By the rate's logarithm. The smoothed loss is some steps late, which near the tear is much.
    """
    lowest = int(np.argmin(losses)) if losses else 0
    if lowest < 2 or losses[lowest] > (1 - FALL) * losses[0]:
        raise KuberecError(
            "the loss falls at no learning rate of the test: start lower, look at the item "
            "vectors, or set training.precision: float32"
        )
    slopes = np.gradient(np.array(losses[: lowest + 1]), np.log(rates[: lowest + 1]))
    steepest = float(rates[int(np.argmin(slopes))])
    best = float(rates[lowest])
    return RateTest(list(rates), list(losses), min(steepest, best / 10), best)
