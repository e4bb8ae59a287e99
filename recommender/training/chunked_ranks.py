"""Ranks among more items than scores fit into memory: a part of the catalogue at a time.

Shapes: B users, N items, C items of a part, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from recommender.model import SequentialRecommender
from recommender.sequences import Split
from recommender.training.validation import padded

AT_ONCE = 256  # users: each group of them reads the whole item table once
ITEMS = 2**16  # C: 64 MiB of scores
TIE = 1e-6  # of a score: what a product in other parts rounds differently


@torch.inference_mode()
def ranks_in_chunks(
    model: SequentialRecommender,
    split: Split,
    rows: Sequence[int],
    device: torch.device,
    items_at_once: int = ITEMS,
) -> np.ndarray:
    """Ranks from 1 of the targets of `rows`, int64, the rest of a history masked.

    What `recommender.training.validation.ranks_of` gives, without [B, N] and without [N, D]:
    scores that differ by less than TIE count as tied, against the target.

    Raises:
        ValueError: a target's score is not a number.
    """
    if not rows:
        return np.zeros(0, dtype=np.int64)
    histories = [split.histories[row] for row in rows]
    history_BL, times_BL = padded(split, rows, model.config, device)
    hidden_BD = model.encode(history_BL, None, last_only=True, times_BL=times_BL)[:, 0]
    target_B = torch.from_numpy(split.targets[list(rows)]).to(device)
    own_B1 = (hidden_BD * model.item_rows(target_B)).sum(dim=1, keepdim=True)
    if own_B1.isnan().any():
        raise ValueError("scores hold NaN: the model has diverged")
    bound_B1 = own_B1 - TIE * own_B1.abs().clamp(min=1)
    user_P, item_P = _not_ranked(histories, target_B, device)
    rank_B = torch.ones_like(target_B)
    for start in range(1, len(model.log_popularity), items_at_once):
        end = min(start + items_at_once, len(model.log_popularity))
        part_CD = model.item_rows(torch.arange(start, end, device=device))
        scores_BC = hidden_BD @ part_CD.T
        here = (item_P >= start) & (item_P < end)
        scores_BC[user_P[here], item_P[here] - start] = -torch.inf
        rank_B += (scores_BC >= bound_B1).sum(dim=1)
    return np.asarray(rank_B.cpu().numpy())


def _not_ranked(
    histories: Sequence[np.ndarray], target_B: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pairs of user and item that are passed over: each history, and the target itself."""
    lengths = torch.tensor([len(history) for history in histories], device=device)
    users = torch.arange(len(histories), device=device)
    items = torch.from_numpy(np.concatenate(histories).astype(np.int64)).to(device)
    return (
        torch.cat([users.repeat_interleave(lengths), users]),
        torch.cat([items, target_B]),
    )
