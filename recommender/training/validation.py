"""Where a model ranks the items that came next."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recommender.evaluation.metrics import mask_history, target_ranks
from recommender.model import SequentialRecommender
from recommender.sequences import Split, pad
from recommender.settings import ModelConfig


def ranks_of(
    model: SequentialRecommender, split: Split, rows: Sequence[int], device: torch.device
) -> np.ndarray:
    """Ranks from 1 of the targets of `rows`, int64; the rest of a history is not ranked.

    With no rows the model is run all the same: others may wait for its shared-out weights.
    """
    history_BL, times_BL = padded(split, rows, model.config, device)
    scores_BN = model(history_BL, times_BL).float().cpu().numpy()
    if not rows:
        return np.zeros(0, dtype=np.int64)
    histories, targets_B = [split.histories[row] for row in rows], split.targets[list(rows)]
    return target_ranks(mask_history(scores_BN, histories, targets_B), targets_B)


def padded(
    split: Split, rows: Sequence[int], config: ModelConfig, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """What the model reads of `rows`: histories int64 [B, L], and their times where it reads those.

    L is the longest of these histories, which need not be all that the model can read. No rows are
    one of one item.
    """
    histories = [split.histories[row] for row in rows] or [np.ones(1, dtype=np.int64)]
    longest = min(config.max_length, max(1, *map(len, histories)))
    history_BL = torch.from_numpy(pad(histories, longest)).to(device)
    times = split.times_for(config)
    if times is None:
        return history_BL, None
    chosen = [times[row] for row in rows] or [np.zeros(1, dtype=np.int64)]
    return history_BL, torch.from_numpy(pad(chosen, longest)).to(device)
