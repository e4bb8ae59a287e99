"""HR@10 and NDCG@10 of a run's config on the field's files, beside what others published.

    python -m benchmarks.quality DATA pipelines/configs/movielens-1m.yaml [--seed 42 1 2]
        [--set model.dim=64 ...] [--label "half as wide"] [--tie-seed 0]

Of the config it takes `text`, `model` and `training`; the same code trains as in a run. DATA is a
folder with sequences.txt and items.jsonl (benchmarks/sequence_data.py); nothing of it is copied.
Protocol: leave-one-out, full ranking over all items, tied scores against the target; the best
epoch on validation is tested once. Every run is kept in quality_<folder's name>.json: what is
there is not trained again, and the tables are made of all.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.quality_tables import as_markdown
from benchmarks.sequence_data import write_snapshot, write_windows
from pipelines.config import load_config
from recommender.evaluation.diversity import coverage
from recommender.evaluation.metrics import model_scorer, rank_metrics
from recommender.evaluation.ranking import rank_users
from recommender.files import read_json
from recommender.model import load_model
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import ModelConfig, TextConfig, TrainingConfig
from recommender.text import encode_items
from recommender.training.fit import fit

PACKAGES = ("torch", "lightning", "numpy", "scikit-learn", "transformers")
METRICS = ("hr@10", "ndcg@10")


def train_and_test(
    windows: Path, vectors: Path, model: ModelConfig, training: TrainingConfig, work: Path
) -> dict[str, Any]:
    """One training, and what its best epoch on validation reaches on test."""

    def tell(done: int, total: int, message: str) -> None:
        print(f"seed {training.seed}: {done}/{total} {message}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(dir=work) as folder:
        out = Path(folder) / "model"
        record = fit(windows, vectors, model, training, out, progress=tell)
        vocabulary = Vocabulary.load(out / "vocabulary.json")
        test, items = load_windows(windows, vocabulary)["test"], len(vocabulary)
        ranking = rank_users(model_scorer(load_model(out)), test, items)
    return {
        "epochs": len(record["curves"]),
        "best_epoch": record["best_epoch"] + 1,
        "parameters": record["parameters"],
        "seconds": round(record["seconds"]),
        "valid": chosen(record["curves"][record["best_epoch"]]),
        "test": chosen(rank_metrics(ranking.ranks)),
        "unmasked": chosen(rank_metrics(ranking.unmasked)),
        "coverage@10": coverage(ranking.shown, items),
    }


def chosen(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that the published tables have."""
    return {key: metrics[key] for key in METRICS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--label", help="what the table calls it; by default what was set")
    parser.add_argument("--seed", type=int, nargs="+", default=[42])
    parser.add_argument("--tie-seed", type=int, help="shuffle what may be of one day, then train")
    parser.add_argument("--out", type=Path, default=machine.RESULTS)
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    name = f"quality_{arguments.data.resolve().name.replace('-', '')}"
    kept = arguments.out / f"{name}.json"
    runs: list[dict[str, Any]] = read_json(kept)["figures"]["runs"] if kept.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        windows = write_windows(arguments.data, work / "windows", arguments.tie_seed)
        snapshot = write_snapshot(arguments.data, work / "snapshot")
        vectors = make_vectors(snapshot, config.text, work)
        for seed in arguments.seed:
            training = config.training.model_copy(update={"seed": seed})
            about = {
                "label": arguments.label or " ".join(arguments.overrides) or "as configured",
                "seed": seed,
                "tie_seed": arguments.tie_seed,
                "text": config.text.features,
                "model": config.model.model_dump(exclude_none=True),
                "training": training.model_dump(exclude={"seed", "threads"}),
            }
            if not any(about.items() <= run.items() for run in runs):
                found = train_and_test(windows, vectors, config.model, training, work)
                runs.append(about | found)
                # After each, so that a benchmark that is stopped leaves what it has measured.
                machine.keep(name, PACKAGES, {"runs": runs}, arguments.out)
            print(as_markdown(runs), flush=True)


def make_vectors(snapshot: Path, text: TextConfig, work: Path) -> Path:
    """item_vectors/ of the snapshot."""
    encode_items(snapshot, text, work / "cache", work / "vectors")
    return work / "vectors"


if __name__ == "__main__":
    main()
