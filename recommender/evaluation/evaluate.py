"""Leave-one-out evaluation over the full catalogue; metrics are never sampled.

Protocol: each user's held-out item is ranked among all items of the k-core, without index 0 and
without the items of the user's history as far as windows.parquet holds it. Ties count against
the model: the target stands behind every item of its score.
"""

from pathlib import Path
from typing import Any

from recommender.errors import Check
from recommender.evaluation.baselines import (
    KNN_GRID,
    RECENT_KNN_GRID,
    Scorer,
    popularity,
    tuned_item_knn,
)
from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.sequences import Vocabulary, item_counts, load_windows
from recommender.settings import EvaluationConfig

BASELINES = ("popularity", "item-knn", "recent item-knn")
PROTOCOL = (
    "leave-one-out, full ranking over the k-core, history masked, events of one timestamp in "
    "file order, tied scores count against the target"
)


def evaluate(model_dir: Path, windows_dir: Path, config: EvaluationConfig) -> dict[str, Any]:
    """Measure the model in `model_dir` and the baselines on validation and test.

    Returns:
        {"protocol", "gate": the checks of `gate`, "users", "items", "longest_history",
        "knn": settings chosen on validation,
        "valid" and "test": {"model" | BASELINES: {metric: value}}}, JSON-ready.
    """
    from recommender.model import load_model

    vocabulary = Vocabulary.load(Path(model_dir) / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    items = len(vocabulary)
    train = splits["train"].histories

    def judge(scorer: Scorer) -> float:
        return evaluate_scorer(scorer, splits["valid"], items)["ndcg@10"]

    scorers = {
        "model": model_scorer(load_model(model_dir)),
        "popularity": popularity(item_counts(train, items)),
    }
    chosen = {}
    for name, grid in (("item-knn", KNN_GRID), ("recent item-knn", RECENT_KNN_GRID)):
        scorers[name], chosen[name] = tuned_item_knn(train, items, grid, judge)
    result: dict[str, Any] = {
        "protocol": PROTOCOL,
        "users": len(splits["test"]),
        "items": items,
        "longest_history": max(map(len, splits["test"].histories)),
        "knn": chosen,
    }
    for split in ("valid", "test"):
        result[split] = {
            name: evaluate_scorer(scorer, splits[split], items) for name, scorer in scorers.items()
        }
    result["gate"] = [check.as_dict() for check in gate(result, config)]
    return result


def gate(result: dict[str, Any], config: EvaluationConfig) -> list[Check]:
    """The margin over the best of the gate's baselines, and the absolute floors."""
    test = result["test"]
    best = max(config.baselines, key=lambda name: test[name]["ndcg@10"])
    limit = test[best]["ndcg@10"] * (1 + config.min_ndcg_margin)
    model = test["model"]
    limits = [
        (f"test NDCG@10, {config.min_ndcg_margin:.0%} above {best}", "ndcg@10", limit),
        ("test NDCG@10", "ndcg@10", config.min_ndcg),
        ("test HR@10", "hr@10", config.min_hr),
    ]
    return [
        Check(name, model[metric], f">= {floor:.4f}", model[metric] >= floor)
        for name, metric, floor in limits
    ]
