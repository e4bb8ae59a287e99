"""The cases of benchmarks.new_items: how they are judged, and what answers them untrained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.new_items_splits import Case, Period
from recommender.evaluation.baselines import Scorer
from recommender.evaluation.metrics import mask_history, rank_metrics, target_ranks
from recommender.item_inputs import load_item_vectors
from recommender.sequences import Vocabulary

CUTOFFS = (10, 50)
BATCH, MOST = 256, 6000


class Cases:
    """A period's cases, and what answers them without a model; index 1..N known, then n new."""

    def __init__(self, period: Period, vectors: Path) -> None:
        self.period = period
        self.vocabulary = Vocabulary(period.known + period.new)
        self.text = load_item_vectors(vectors, self.vocabulary).text.numpy()
        self.known = len(period.known)

    def text_neighbours(self) -> Scorer:
        """Likeness of texts to the mean of the history's latest 10: no training at all."""

        def score(histories: Sequence[np.ndarray]) -> np.ndarray:
            return np.stack([self.text[history[-10:]].mean(axis=0) for history in histories]) @ (
                self.text.T
            )

        return score

    def popularity(self, categories: dict[str, list[str]] | None) -> Scorer:
        """Events before the period; a new item has none, or its categories' mean."""
        counts = np.zeros(len(self.vocabulary) + 1)
        for items in self.period.train:
            np.add.at(counts, self.vocabulary.encode(items), 1)
        if categories is not None:
            members: dict[str, list[float]] = {}
            for index, item in enumerate(self.period.known, start=1):
                for category in categories[item]:
                    members.setdefault(category, []).append(counts[index])
            mean = {category: float(np.mean(found)) for category, found in members.items()}
            for index, item in enumerate(self.period.new, start=self.known + 1):
                found = [mean[category] for category in categories[item] if category in mean]
                counts[index] = np.mean(found) if found else 0.0
        return lambda histories: np.tile(counts, (len(histories), 1))

    def random(self, seed: int) -> Scorer:
        rng = np.random.default_rng(seed)
        return lambda histories: rng.random((len(histories), len(self.vocabulary) + 1))

    def measure(self, score: Scorer, cases: Sequence[Case]) -> dict[str, dict[str, float]]:
        """recall@10, recall@50 and ndcg@10, among all items and, of new ones, among these."""
        ranks: dict[str, list[np.ndarray]] = {"all": [], "new": []}
        for start in range(0, len(cases), BATCH):
            part = cases[start : start + BATCH]
            histories = [self.vocabulary.encode(history) for history, _ in part]
            targets = np.array([self.vocabulary.index(target) for _, target in part])
            masked = mask_history(score(histories), histories, targets)
            ranks["all"].append(target_ranks(masked, targets))
            masked[:, : self.known + 1] = -np.inf
            ranks["new"].append(target_ranks(masked, targets))
        names = {"hr@10": "recall@10", "hr@50": "recall@50", "ndcg@10": "ndcg@10"}
        found = {among: rank_metrics(np.concatenate(ranks[among]), CUTOFFS) for among in ranks}
        return {
            among: {ours: round(metrics[name], 5) for name, ours in names.items()}
            for among, metrics in found.items()
        }

    def new(self, score: Scorer) -> dict[str, Any]:
        cases = self.period.new_cases
        chosen = np.random.default_rng(0).permutation(len(cases))[:MOST]
        return self.measure(score, [cases[place] for place in sorted(chosen)])

    def old(self, score: Scorer) -> dict[str, float]:
        return self.measure(score, self.period.known_cases)["all"]
