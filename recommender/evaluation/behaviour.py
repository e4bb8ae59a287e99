"""What a sound sequence model does, measured on a trained one: directions, not quality.

Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList"
(arXiv:2005.04118): a change of the input that must change the answer, and one that must not.
A model can pass NDCG@10 and read nothing but the latest item.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recommender.evaluation.baselines import Scorer
from recommender.evaluation.metrics import mask_history, users_at_once
from recommender.evaluation.ranking import score, top_items
from recommender.sequences import Split
from recommender.settings import BehaviourConfig


def behaviour(
    model: Any,
    scorer: Scorer,
    test: Split,
    shown_UK: np.ndarray,
    counts_N1: np.ndarray,
    config: BehaviourConfig,
    seed: int,
) -> dict[str, Any]:
    """How the model behaves on test users; None where there is nothing to measure it on.

    Args:
        model: a SequentialRecommender.
        scorer: of it.
        shown_UK: what it shows to each user of `test`, int64 [U, 10].
        counts_N1: training events of each item.

    Returns:
        {"users", "reversed_overlap", "repeat_overlap": mean shares of a top 10,
        "text_agreement", "popularity_ratio"}.
    """
    rng = np.random.default_rng(seed)
    # Of fewer than two different items there is no order.
    rows = [row for row, history in enumerate(test.histories) if len(np.unique(history)) > 1]
    chosen = rng.permutation(rows)[: config.users] if rows else np.array([], dtype=np.int64)
    users = _rows(test, chosen)
    return {
        "users": len(users),
        "reversed_overlap": _overlap(scorer, users, shown_UK[chosen], _reversed),
        "repeat_overlap": _overlap(scorer, users, shown_UK[chosen], _repeated),
        "text_agreement": text_agreement(model, config.users, rng),
        "popularity_ratio": popularity_ratio(shown_UK, test.targets, counts_N1),
    }


def overlap(one_UK: np.ndarray, other_UK: np.ndarray) -> float:
    """Mean share of the items of one list that are in the other; places do not matter."""
    both = (one_UK[:, :, None] == other_UK[:, None, :]) & (one_UK[:, :, None] > 0)
    listed = np.maximum((one_UK > 0).sum(axis=1), 1)
    return float((both.any(axis=2).sum(axis=1) / listed).mean())


def popularity_ratio(shown_UK: np.ndarray, targets_U: np.ndarray, counts_N1: np.ndarray) -> float:
    """Mean training events of the shown items over those of the items that users chose.

    The average recommendation popularity of Yin et al. 2012 ("Challenging the long tail
    recommendation", PVLDB 5(9)), which counts where percentiles saturate.
    """
    chosen = max(float(counts_N1[targets_U].mean()), 1e-9)
    shown = shown_UK[shown_UK > 0]
    return float(counts_N1[shown].mean()) / chosen if len(shown) else 0.0


def text_agreement(model: Any, sample: int, rng: np.random.Generator) -> float | None:
    """Share of items that are nearer to their nearest item by text than to a random one.

    By the cosine of the rows of the item table, equal ones half. 0.5 would be chance; None where
    items have no texts.
    """
    import torch
    from torch.nn import functional

    with torch.inference_mode():
        texts_NT = functional.normalize(model.text_vectors, dim=-1)
        with_text = texts_NT.abs().sum(dim=-1).nonzero().flatten().cpu().numpy()
        if len(with_text) < 3:
            return None
        chosen = torch.from_numpy(rng.permutation(with_text)[:sample]).to(texts_NT.device)
        nearest = []
        for part in chosen.split(users_at_once(len(texts_NT))):
            similar = texts_NT[part] @ texts_NT.T
            similar[:, 0] = -torch.inf
            similar[torch.arange(len(part)), part] = -torch.inf
            nearest.append(similar.argmax(dim=1))
        near = torch.cat(nearest)
        other = torch.from_numpy(rng.choice(with_text, len(chosen))).to(near.device)
        told = (other != chosen) & (other != near)
        rows = [
            functional.normalize(model.item_rows(i[told]), dim=-1) for i in (chosen, near, other)
        ]
        near_cosine = (rows[0] * rows[1]).sum(dim=-1)
        other_cosine = (rows[0] * rows[2]).sum(dim=-1)
        nearer = (near_cosine > other_cosine).float() + 0.5 * (near_cosine == other_cosine)
    return float(nearer.mean()) if len(nearer) else None


def _overlap(
    scorer: Scorer, users: Split, shown_UK: np.ndarray, change: Callable[[Split], Split]
) -> float | None:
    """Mean overlap of what is shown with what is shown after `change`; masking stays the same."""
    if not len(users):
        return None
    changed = change(users)
    lists = []
    at_once = users_at_once(scorer(users.histories[:1]).shape[1] - 1)
    for start in range(0, len(users), at_once):
        rows = slice(start, start + at_once)
        times = None if changed.times is None else changed.times[rows]
        scores_BN = score(scorer, changed.histories[rows], times)
        masked_BN = mask_history(scores_BN, users.histories[rows], users.targets[rows])
        lists.append(top_items(masked_BN))
    return overlap(shown_UK, np.concatenate(lists))


def _reversed(split: Split) -> Split:
    """Items in the other order, at the times that there were."""
    return replace(split, histories=[history[::-1].copy() for history in split.histories])


def _repeated(split: Split) -> Split:
    """The latest event once more, at its time."""

    def twice(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.append(own, own[-1:]) for own in rows]

    times = None if split.times is None else twice(split.times)
    return replace(split, histories=twice(split.histories), times=times)


def _rows(split: Split, rows: np.ndarray) -> Split:
    return Split(
        [split.users[row] for row in rows],
        [split.histories[row] for row in rows],
        split.targets[rows],
        None if split.times is None else [split.times[row] for row in rows],
    )
