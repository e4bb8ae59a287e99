"""Full-ranking metrics; never sampled.

Ties count against the model: the target stands behind every item of its score.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recommender.evaluation.baselines import Scorer
from recommender.sequences import Split, pad

CUTOFFS = (5, 10, 20)
COVERAGE_AT = 10
BATCH = 256
TOGETHER = 32  # histories that a model reads at a time
CELLS = 2**25  # scores at a time; of a million items 33 users', 130 MB
MISS = 2**40  # the rank of a target that a scorer does not know


def users_at_once(items: int) -> int:
    """How many users' scores are held at a time, so that a large catalogue fits into memory."""
    return max(1, min(BATCH, CELLS // (items + 1)))


def mask_history(
    scores_BN: np.ndarray, histories: Sequence[np.ndarray], targets_B: np.ndarray
) -> np.ndarray:
    """A copy of `scores_BN` where index 0 and each history, but not its target, is -inf.

    Float scores keep their precision, others become float64.
    """
    exact = scores_BN.dtype if scores_BN.dtype.kind == "f" else np.float64
    masked_BN = scores_BN.astype(exact)
    masked_BN[:, 0] = -np.inf
    for row, history in enumerate(histories):
        masked_BN[row, history[history != targets_B[row]]] = -np.inf
    return masked_BN


def target_ranks(masked_BN: np.ndarray, targets_B: np.ndarray) -> np.ndarray:
    """Rank of each target from 1, int64 [B]: one more than the other items that score as high.

    Raises:
        ValueError: a score is not a number; it would silently count as a low one.
    """
    if np.isnan(masked_BN.min(axis=1)).any():  # which NaN passes through
        raise ValueError("scores hold NaN: the model has diverged")
    target_B1 = np.take_along_axis(masked_BN, targets_B[:, None], axis=1)
    return (masked_BN >= target_B1).sum(axis=1)


def gains(ranks: np.ndarray, cutoff: int = 10) -> np.ndarray:
    """NDCG@cutoff of each rank, float64: 1 / log2(rank + 1) within the cutoff, 0 beyond.

    With one relevant item a user the ideal gain is 1 (Järvelin and Kekäläinen 2002).
    """
    return np.where(ranks <= cutoff, 1.0 / np.log2(ranks + 1.0), 0.0)


def rank_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """HR@c, NDCG@c and MRR of ranks from 1; with one relevant item a user, HR is Recall."""
    metrics = {"mrr": float(np.mean(1.0 / ranks))}
    for cutoff in cutoffs:
        metrics[f"hr@{cutoff}"] = float(np.mean(ranks <= cutoff))
        metrics[f"ndcg@{cutoff}"] = float(np.mean(gains(ranks, cutoff)))
    return metrics


def evaluate_scorer(scorer: Scorer, split: Split, items: int) -> dict[str, float]:
    """All metrics of a scorer on a split; coverage@10 is the share of items in anyone's top 10."""
    from recommender.evaluation.diversity import coverage
    from recommender.evaluation.ranking import rank_users

    ranking = rank_users(scorer, split, items)
    metrics = rank_metrics(ranking.ranks)
    return metrics | {f"coverage@{COVERAGE_AT}": coverage(ranking.shown, items)}


def model_scorer(model: Any) -> Callable[..., np.ndarray]:
    """A SequentialRecommender as a scorer; a history without known items gets log popularity.

    The item table is computed at once, and kept: score with a new scorer after training on.
    Histories of a like length are read together, so that few are padded by much.
    """
    import torch

    with torch.inference_mode():
        table_ND = model.item_table()

    def score(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        known = times if model.config.time != "none" else None
        length_B = np.minimum([len(history) for history in histories], model.config.max_length)
        scores_BN = np.empty((len(histories), len(table_ND)), dtype=np.float32)
        order = np.argsort(length_B, kind="stable")
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER]
            scores_BN[rows] = read(
                [histories[row] for row in rows],
                None if known is None else [known[row] for row in rows],
                max(1, int(length_B[rows[-1]])),
            )
        scores_BN[length_B == 0] = model.log_popularity.cpu().numpy()
        return scores_BN

    def read(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None, length: int
    ) -> np.ndarray:
        device = model.log_popularity.device
        history_BL = torch.from_numpy(pad(histories, length)).to(device)
        times_BL = None if times is None else torch.from_numpy(pad(times, length)).to(device)
        with torch.inference_mode():
            hidden_BD = model.encode(
                history_BL,
                table_ND,
                last_only=True,
                times_BL=times_BL,
                right_padded=bool((history_BL > 0).all()),  # none is padded: no mask is needed
            )[:, 0]
            return (hidden_BD @ table_ND.T).float().cpu().numpy()

    return score
