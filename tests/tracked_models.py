"""What steps leave of one training and one version, made up, and written down in MLflow."""

from pathlib import Path
from typing import Any

from recommender.files import write_json
from tracking.registry import Registered, find
from tracking.runs import training_run
from tracking.store import Store
from tracking.versions import Origin, register_version

SECTIONS = {"model": {"dim": 8}, "training": {"learning_rate": 0.01, "seed": 1.0}}
INPUTS = {"windows": "a" * 64, "vectors": "b" * 64}
FINGERPRINTS = {**INPUTS, "data": "d" * 64, "model": "e" * 64}
SNAPSHOT = {
    "fingerprint": "d" * 64,
    "engine": "duckdb",
    "source": {"events": {"path": "events.csv"}, "items": {"path": "items.csv"}, "files": "f" * 64},
    "read": {"events": 100, "items": 12},
    "kept": {"events": 97, "items": 12, "users": 9},
    "rejected": {"events": {"unknown item": 2, "no time": 1}, "items": {}},
}


def curves(epochs: int) -> list[dict[str, float]]:
    """Rows as fit() gives them."""
    return [
        {"epoch": epoch, "train_loss": 3.0 - epoch, "ndcg@10": 0.1 * (epoch + 1), "seconds": 1.0}
        for epoch in range(epochs)
    ]


def trained(folder: Path, epochs: int = 3) -> Path:
    """A trained model's folder, as far as tracking reads it."""
    folder.mkdir(parents=True)
    rows = curves(epochs)
    record = {"curves": rows, "best_epoch": epochs - 1, "parameters": 10, "seconds": 3.0}
    write_json(folder / "training.json", record)
    write_json(folder / "vocabulary.json", ["one", "two"])
    return folder


def evaluation(ndcg: float) -> dict[str, Any]:
    """The report's parts that are read here; one metric has no value."""
    return {
        "valid": {"model": {"ndcg@10": ndcg + 0.01}},
        "test": {
            "model": {"ndcg@10": ndcg, "hr@10": 2 * ndcg, "mrr": float("nan")},
            "item-knn": {"ndcg@10": 0.05},
        },
        "intervals": {"ndcg@10": [ndcg - 0.01, ndcg + 0.01]},
        "slices": [{"by": "activity", "slice": "fewer than 20 events", "ndcg@10": ndcg / 2}],
    }


def registered(
    store: Store, folder: Path, version: str, ndcg: float = 0.3, learning_rate: float = 0.01
) -> Registered:
    """Train, evaluate, export, as the steps do it."""
    training = {**SECTIONS["training"], "learning_rate": learning_rate}
    sections = {**SECTIONS, "training": training}
    with training_run(store, version, sections, INPUTS) as run:
        for row in curves(3):
            run.log(int(row["epoch"]), row)
        run.finish(trained(folder / "model"))
    write_json(folder / "evaluation.json", evaluation(ndcg))
    write_json(folder / "snapshot.json", SNAPSHOT)
    write_json(folder / "config.yaml", {})  # JSON is YAML: what a run's folder has
    origin = Origin(
        run.id,
        FINGERPRINTS,
        {**sections, "source": {"name": "made up"}},
        folder / "model",
        folder / "evaluation.json",
        folder / "snapshot.json",
        str(folder / "steps" / "version"),
    )
    said = register_version(store, version, origin)
    return find(store, said["registered"])
