"""What the recommender is told of items besides their ids: four item inputs on equal terms.

    python -m benchmarks.item_inputs DATA [--epochs 4] [--dim 64] [--seed 42 ...]

DATA has `sequences.txt` (user item item ..., in time order) and `items.jsonl` (id, title,
categories and, if known, year), as MovieLens-1M in SASRec's layout; nothing of it is copied.
Protocol: leave-one-out (last = test, second last = validation), full ranking over all items, the
history masked. The same code trains as in a run (recommender.training), on one CPU thread.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.sequence_data import write_snapshot, write_windows
from recommender.evaluation.metrics import evaluate_scorer, model_scorer
from recommender.model import load_model
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import ModelConfig, TextConfig, TrainingConfig
from recommender.text import encode_items
from recommender.training.fit import fit

INPUTS = {
    "none": [],
    "TF-IDF-SVD": ["tfidf-svd"],
    "MiniLM": ["encoder"],
    "both": ["tfidf-svd", "encoder"],
}
PACKAGES = ("torch", "numpy", "scikit-learn", "transformers")
METRICS = ("ndcg@10", "hr@10", "mrr", "coverage@10")


def measure(
    name: str, windows: Path, vectors: Path, model: ModelConfig, training: TrainingConfig
) -> dict[str, Any]:
    """Train one input with one seed, and measure the best epoch on test."""

    def tell(done: int, total: int, message: str) -> None:
        print(
            f"{name}, seed {training.seed}: {done}/{total} {message}", file=sys.stderr, flush=True
        )

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        record = fit(windows, vectors, model, training, out, progress=tell)
        vocabulary = Vocabulary.load(out / "vocabulary.json")
        splits = load_windows(windows, vocabulary)
        scorer = model_scorer(load_model(out))
        test = evaluate_scorer(scorer, splits["test"], len(vocabulary))
    return {
        "input": name,
        "seed": training.seed,
        "best_epoch": record["best_epoch"] + 1,
        "parameters": record["parameters"],
        "training_seconds": round(record["seconds"]),
        "valid": {key: record["curves"][record["best_epoch"]][key] for key in METRICS[:2]},
        "test": {key: test[key] for key in METRICS},
    }


def table(runs: Sequence[dict[str, Any]], inputs: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row an input, means over the seeds; with several seeds, lowest to highest."""
    lines = [
        "| item input | dimensions | to make it | valid NDCG@10 | test NDCG@10 | test HR@10 |"
        " coverage@10 |",
        "|---|---|---|---|---|---|---|",
    ]

    def cell(values: list[float]) -> str:
        mean = f"{sum(values) / len(values):.4f}"
        return mean if len(values) == 1 else f"{mean} ({min(values):.4f}–{max(values):.4f})"

    for name, made in inputs.items():
        own = [run for run in runs if run["input"] == name]
        if own:
            cells = [
                cell([run["valid"]["ndcg@10"] for run in own]),
                *(
                    cell([run["test"][key] for run in own])
                    for key in ("ndcg@10", "hr@10", "coverage@10")
                ),
            ]
            lines.append(
                f"| {name} | {made['dim']} | {made['seconds']:.1f} s | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--seed", type=int, nargs="+", default=[42])
    parser.add_argument("--out", type=Path, default=machine.RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = ModelConfig(dim=arguments.dim, layers=arguments.layers, max_length=50, dropout=0.2)
    training = TrainingConfig(
        epochs=arguments.epochs, patience=arguments.epochs, warmup_epochs=0.5, threads=1
    )
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        windows = write_windows(arguments.data, work / "windows")
        snapshot = write_snapshot(arguments.data, work / "snapshot")
        made = {}
        for title, features in INPUTS.items():
            started = time.monotonic()
            # A cache of its own each, so that the seconds are those of a first run.
            described = encode_items(
                snapshot, TextConfig(features=features), work / f"cache {title}", work / title
            )
            made[title] = {"dim": described["dim"], "seconds": time.monotonic() - started}
        runs: list[dict[str, Any]] = []
        figures = {
            "protocol": "leave-one-out, full ranking over all items, history masked, tied scores "
            "count against the target; the best epoch on validation NDCG@10",
            "model": model.model_dump(),
            "training": training.model_dump(),
            "inputs": made,
            "runs": runs,
        }
        for seed in arguments.seed:
            for title in INPUTS:
                config = training.model_copy(update={"seed": seed})
                runs.append(measure(title, windows, work / title, model, config))
                # After each, so that a run that is stopped leaves what it has measured.
                machine.keep("item_inputs", PACKAGES, figures, arguments.out)
                print(table(runs, made), flush=True)


if __name__ == "__main__":
    main()
