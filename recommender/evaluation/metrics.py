"""Full-ranking metrics; never sampled.

Ties count against the model: the target stands behind every item of its score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recommender.evaluation.baselines import Scorer
from recommender.sequences import Split, pad

CUTOFFS = (5, 10, 20)
COVERAGE_AT = 10
BATCH = 256


def mask_history(
    scores_BN: np.ndarray, histories: Sequence[np.ndarray], targets_B: np.ndarray
) -> np.ndarray:
    """A float64 copy of `scores_BN` where index 0 and each history, but not its target, is -inf."""
    masked_BN = scores_BN.astype(np.float64)
    masked_BN[:, 0] = -np.inf
    for row, history in enumerate(histories):
        masked_BN[row, history[history != targets_B[row]]] = -np.inf
    return masked_BN


def target_ranks(masked_BN: np.ndarray, targets_B: np.ndarray) -> np.ndarray:
    """Rank of each target from 1, int64 [B]: one more than the other items that score as high.

    Raises:
        ValueError: a score is not a number; it would silently count as a low one.
    """
    if np.isnan(masked_BN).any():
        raise ValueError("scores hold NaN: the model has diverged")
    target_B1 = np.take_along_axis(masked_BN, targets_B[:, None], axis=1)
    return (masked_BN >= target_B1).sum(axis=1)


def rank_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """HR@c, NDCG@c and MRR of ranks from 1.

    With one relevant item a user, HR is Recall, and NDCG is 1 / log2(rank + 1) within the cutoff
    (Järvelin and Kekäläinen 2002, with an ideal gain of 1).
    """
    gain = 1.0 / np.log2(ranks + 1.0)
    metrics = {"mrr": float(np.mean(1.0 / ranks))}
    for cutoff in cutoffs:
        hit = ranks <= cutoff
        metrics[f"hr@{cutoff}"] = float(np.mean(hit))
        metrics[f"ndcg@{cutoff}"] = float(np.mean(gain * hit))
    return metrics


def evaluate_scorer(scorer: Scorer, split: Split, items: int) -> dict[str, float]:
    """All metrics of a scorer on a split; coverage@10 is the share of items in anyone's top 10."""
    ranks: list[np.ndarray] = []
    shown = np.zeros(items + 1, dtype=bool)
    for start in range(0, len(split), BATCH):
        histories = split.histories[start : start + BATCH]
        targets_B = split.targets[start : start + BATCH]
        masked_BN = mask_history(scorer(histories), histories, targets_B)
        ranks.append(target_ranks(masked_BN, targets_B))
        width = min(COVERAGE_AT, items)
        shown[np.argpartition(-masked_BN, width - 1, axis=1)[:, :width]] = True
    metrics = rank_metrics(np.concatenate(ranks))
    return metrics | {f"coverage@{COVERAGE_AT}": float(shown[1:].mean())}


def model_scorer(model: Any) -> Scorer:
    """A SequentialRecommender as a scorer; a history without known items gets log popularity."""
    import torch

    def score(histories: Sequence[np.ndarray]) -> np.ndarray:
        history_BL = torch.from_numpy(pad(histories, model.config.max_length))
        device = model.log_popularity.device
        with torch.inference_mode():
            scores_BN = model(history_BL.to(device)).float().cpu().numpy()
        empty_B = np.array([len(history) == 0 for history in histories])
        scores_BN[empty_B] = model.log_popularity.cpu().numpy()
        return scores_BN

    return score
