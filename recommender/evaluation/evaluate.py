"""Leave-one-out evaluation over the full catalogue; metrics are never sampled.

Protocol: each user's held-out item is ranked among all items of the k-core, without index 0 and
without the items of the user's history as far as windows.parquet holds it. Ties count against
the model: the target stands behind every item of its score.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.evaluation.baselines import Scorer, popularity
from recommender.evaluation.behaviour import behaviour
from recommender.evaluation.calibration import calibration
from recommender.evaluation.catalogue import load_catalogue
from recommender.evaluation.champion import Champion
from recommender.evaluation.comparison import (
    CHAMPION,
    MODEL,
    against_champion,
    intervals,
    slice_rows,
)
from recommender.evaluation.diversity import (
    coverage,
    novelty,
    popularity_bias,
    popularity_percentiles,
    self_information,
    users_of_items,
)
from recommender.evaluation.gate import gate
from recommender.evaluation.item_knn import cosine_similarities
from recommender.evaluation.knn_search import (
    KNN_GRID,
    RECENT_KNN_GRID,
    SHRINKAGES,
    KnnJudge,
    best_item_knn,
)
from recommender.evaluation.metrics import COVERAGE_AT, gains, model_scorer, rank_metrics
from recommender.evaluation.ranking import Ranking, masked_ranks, rank_users, score
from recommender.evaluation.slices import make_slices
from recommender.evaluation.ties import tie_groups, tie_metrics, tied_share
from recommender.sequences import Split, Vocabulary, item_counts, load_windows
from recommender.settings import EvaluationConfig

BASELINES = ("popularity", "item-knn", "recent item-knn")
PROTOCOL = (
    "leave-one-out, full ranking over the k-core, history masked, events of one timestamp in "
    "file order, tied scores count against the target"
)


def evaluate(
    model_dir: Path,
    windows_dir: Path,
    config: EvaluationConfig,
    champion_dir: Path | None = None,
    items_dir: Path | None = None,
    champion_version: str = "",
    champion_name: str = "",
    languages: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Measure the model in `model_dir`, the baselines and the champion.

    Args:
        champion_dir: the champion's trained model; None: there is none.
        items_dir: a snapshot's folder; without it there are no slices by category and language.
        champion_version, champion_name: of the registry, for reports.
        languages: of the items' texts, by item id, where the snapshot does not say.

    Returns:
        What docs/evaluation.md lists, JSON-ready: {"protocol", "users", "items",
        "longest_history", "knn", "valid", "test", "intervals", "unmasked", "ties", "calibration",
        "slices", "champion", "behaviour", "gate"}.

    Raises:
        KuberecError: windows, model or items table lack something that is needed.
    """
    from recommender.model import load_model

    vocabulary = Vocabulary.load(Path(model_dir) / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    items = len(vocabulary)
    train, test = splits["train"].histories, splits["test"]
    counts_N1 = item_counts(train, items)
    model = load_model(model_dir)
    for split in splits.values():
        split.times_for(model.config)  # which says what is missing
    catalogue = None if items_dir is None else load_catalogue(items_dir, vocabulary, languages)

    scorers: dict[str, Scorer] = {
        MODEL: model_scorer(model),
        "popularity": popularity(counts_N1),
    }
    similarities = cosine_similarities(train, items, SHRINKAGES)
    judge = KnnJudge(splits["valid"], counts_N1)
    chosen = {}
    for name, grid in (("item-knn", KNN_GRID), ("recent item-knn", RECENT_KNN_GRID)):
        scorers[name], chosen[name] = best_item_knn(similarities, grid, judge)
    del similarities
    valid, tested = (
        {name: rank_users(scorer, split, items) for name, scorer in scorers.items()}
        for split in (splits["valid"], test)
    )

    recent = {name: _of_latest(scorer, config.new_user_events) for name, scorer in scorers.items()}
    whole_gains = {name: gains(ranking.ranks) for name, ranking in tested.items()}
    new_gains = {name: gains(masked_ranks(scorer, test, items)) for name, scorer in recent.items()}
    champion = None
    if champion_dir is not None and config.against_champion:
        serving = Champion(champion_dir, vocabulary)
        latest = _of_latest(serving.scorer, config.new_user_events)
        whole_gains[CHAMPION] = gains(serving.ranks(test))
        new_gains[CHAMPION] = gains(serving.ranks(test, latest))
        champion = {"version": champion_version, "name": champion_name} | against_champion(
            whole_gains, config
        )

    shown = _Shown(train, test, items, counts_N1)
    ranking = tested[MODEL]
    result: dict[str, Any] = {
        "protocol": PROTOCOL,
        "users": len(test),
        "items": items,
        "longest_history": max(map(len, test.histories)),
        "knn": chosen,
        "valid": {name: _metrics(ranked, items) for name, ranked in valid.items()},
        "test": {
            name: _metrics(ranked, items) | shown.measures(ranked)
            for name, ranked in tested.items()
        },
        "intervals": intervals(whole_gains[MODEL], config),
        "unmasked": rank_metrics(ranking.unmasked),
        "ties": _ties(scorers[MODEL], test, items, config),
        "calibration": calibration(ranking.confidence, ranking.shown[:, 0] == test.targets),
        "slices": slice_rows(
            make_slices(test, counts_N1, config, catalogue), whole_gains, new_gains, config
        ),
        "champion": champion,
        "behaviour": behaviour(
            model,
            scorers[MODEL],
            test,
            ranking.shown,
            counts_N1,
            config.behaviour,
            config.seed,
        ),
    }
    result["gate"] = [check.as_dict() for check in gate(result, config)]
    return result


class _Shown:
    """Novelty and popularity of what rankers show, against the same training events."""

    def __init__(
        self, train: list[np.ndarray], test: Split, items: int, counts_N1: np.ndarray
    ) -> None:
        self.information_N1 = self_information(users_of_items(train, items), len(train))
        self.percentiles_N1 = popularity_percentiles(counts_N1)
        self.targets_U = test.targets

    def measures(self, ranking: Ranking) -> dict[str, float]:
        return {
            f"novelty@{COVERAGE_AT}": novelty(ranking.shown, self.information_N1),
            "popularity_bias": popularity_bias(ranking.shown, self.targets_U, self.percentiles_N1),
        }


def _metrics(ranking: Ranking, items: int) -> dict[str, float]:
    return rank_metrics(ranking.ranks) | {f"coverage@{COVERAGE_AT}": coverage(ranking.shown, items)}


def _of_latest(scorer: Scorer, events: int) -> Scorer:
    """The scorer, told the latest events alone; what is masked is still the whole history."""

    def scored(
        histories: Sequence[np.ndarray], times: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        latest = None if times is None else [own[-events:] for own in times]
        return score(scorer, [history[-events:] for history in histories], latest)

    return scored


def _ties(
    scorer: Scorer, test: Split, items: int, config: EvaluationConfig
) -> dict[str, Any] | None:
    """None where times are not known, or none are equal: then there is nothing to shuffle."""
    if test.times is None or not config.tie_shuffles:
        return None
    groups = tie_groups(test.times)
    if not tied_share(groups):
        return None
    return tie_metrics(scorer, test, items, groups, config.tie_shuffles, config.seed)
