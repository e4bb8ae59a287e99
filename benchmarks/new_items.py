"""How well items are found that the model was not trained on: `kuberec items refresh`, measured.

    python -m benchmarks.new_items DATA --split joining|listing [--epochs 6] [--seed 42 ...]

DATA is MovieLens-1M in SASRec's layout with sas_to_original_users.txt (joining) or Amazon Beauty in
S3-Rec's (listing); new_items_splits.py says what time is in them. Nothing of it is copied.

Two periods. In the first the rule that gives a new item its id's part was chosen; in the second,
after training again on what came before it, all is measured once. The boost is found as an export
finds it (recommender.new_items.calibrate), on what came before the period. Protocol: every event
with a new item is a case (of more than 6,000, that many by chance); its history is all that came
before, also of the period; full ranking over all items, the history masked, tied scores count
against the item.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks import machine
from benchmarks.new_items_cases import Cases
from benchmarks.new_items_splits import SPLITS, Period
from benchmarks.sequence_data import write_snapshot
from recommender.evaluation.baselines import Scorer
from recommender.files import read_json, write_json
from recommender.model import SequentialRecommender, load_model
from recommender.new_items import Rule, calibrate, fit_item_map, predicted
from recommender.sequences import Split, Vocabulary, load_windows, pad
from recommender.settings import ModelConfig, TextConfig, TrainingConfig
from recommender.text import encode_items
from recommender.training.fit import fit

PACKAGES = ("torch", "numpy", "transformers")
BOOSTS = (0.0, 1.0, 2.0, 3.0, 4.0)


def write_windows(period: Period, folder: Path) -> Path:
    """All but the last item of each training sequence, and the last to choose an epoch by."""
    rows: list[tuple[str, str, list[str], str | None]] = []
    for user, items in enumerate(period.train):
        if len(items) > 1:
            rows.append((str(user), "train", items[:-1], None))
            rows += [(str(user), split, items[:-1], items[-1]) for split in ("valid", "test")]
    names = ("user_id", "split", "history", "target")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    folder.mkdir(parents=True)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    pq.write_table(table, folder / "windows.parquet")
    write_json(folder / "vocabulary.json", period.known)
    return folder


def nothing(text_NT: np.ndarray, id_ND: np.ndarray, new_nT: np.ndarray) -> np.ndarray:
    return np.zeros((len(new_nT), id_ND.shape[1]), np.float32)


def mean_of_all(text_NT: np.ndarray, id_ND: np.ndarray, new_nT: np.ndarray) -> np.ndarray:
    return np.tile(id_ND.mean(axis=0), (len(new_nT), 1))


def mean_of_nearest(text_NT: np.ndarray, id_ND: np.ndarray, new_nT: np.ndarray) -> np.ndarray:
    """Of the 10 items of the likest texts."""
    nearest = np.argpartition(-(new_nT @ text_NT.T), 9, axis=1)[:, :10]
    return id_ND[nearest].mean(axis=1)


RULES: dict[str, Rule] = {
    "map": predicted,
    "zero": nothing,
    "mean": mean_of_all,
    "10 nearest": mean_of_nearest,
}


class World(Cases):
    """A trained model beside the new items of its period."""

    def __init__(self, model: SequentialRecommender, period: Period, vectors: Path) -> None:
        super().__init__(period, vectors)
        self.model = model
        self.table = model.item_table().detach().numpy()
        self.ids = model.id_embedding.weight.detach().numpy()[1:]
        self.projection = model.text_projection.weight.detach().numpy().T  # type: ignore[union-attr]
        self.new_text = self.text[self.known + 1 :]

    def rows(self, rule: str) -> np.ndarray:
        """The new items' rows of the table, [n, D]."""
        if rule == "map":  # as it serves
            found = fit_item_map(self.model)
            assert found is not None
            return found.rows(self.new_text)
        known = self.text[1 : self.known + 1]
        return self.new_text @ self.projection + RULES[rule](known, self.ids, self.new_text)

    def scorer(self, rule: str, boost: float = 0.0) -> Scorer:
        table = np.concatenate([self.table, self.rows(rule)]).astype(np.float32)
        table_ND = torch.from_numpy(table)

        def score(histories: Sequence[np.ndarray]) -> np.ndarray:
            history_BL = torch.from_numpy(pad(histories, self.model.config.max_length))
            with torch.inference_mode():
                hidden_BD = self.model.encode(history_BL, table_ND, last_only=True)[:, 0]
                scores_BN = (hidden_BD @ table_ND.T).numpy()
            scores_BN[:, self.known + 1 :] += boost
            return scores_BN

        return score

    def before(self) -> Scorer:
        """The model as it was: new items are skipped in histories, and not in the catalogue."""
        score = self.scorer("zero")

        def without(histories: Sequence[np.ndarray]) -> np.ndarray:
            scores_BN = score([history[history <= self.known] for history in histories])
            scores_BN[:, self.known + 1 :] = -np.inf
            return scores_BN

        return without


def train(
    period: Period, vectors: Path, model: ModelConfig, training: TrainingConfig, name: str
) -> tuple[World, Split, int]:
    """The trained model, its validation split, and the seconds it took."""

    def tell(done: int, total: int, message: str) -> None:
        line = f"{name}, seed {training.seed}: {done}/{total} {message}"
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        windows = write_windows(period, Path(folder) / "windows")
        record = fit(windows, vectors, model, training, Path(folder) / "model", progress=tell)
        world = World(load_model(Path(folder) / "model"), period, vectors)
        valid = load_windows(windows, Vocabulary(period.known))["valid"]
    return world, valid, round(record["seconds"])


def compare_rules(world: World, valid: Split) -> dict[str, Any]:
    """Each rule without a boost and with its own."""
    found = {}
    for rule, function in RULES.items():
        calibrated = calibrate(world.model, valid, function)
        assert calibrated is not None
        found[rule] = {
            **calibrated,
            "no boost": world.new(world.scorer(rule)),
            "boosted": world.new(world.scorer(rule, calibrated["boost"])),
            "known, boosted": world.old(world.scorer(rule, calibrated["boost"])),
        }
    return found


def judge(world: World, valid: Split, categories: dict[str, list[str]]) -> dict[str, Any]:
    """What serves, against all else; and what a boost gives and takes."""
    calibrated = calibrate(world.model, valid)
    found_map = fit_item_map(world.model)
    assert calibrated is not None
    assert found_map is not None
    seen = np.array([len(set(history)) for history, _ in world.period.new_cases])
    catalogue = len(world.vocabulary)
    fresh = len(world.period.new)
    return {
        "calibrated": calibrated,
        "explained": {key: round(found_map.about[key], 4) for key in ("penalty", "r2")},
        "new items": {
            "refreshed": world.new(world.scorer("map", calibrated["boost"])),
            "text neighbours": world.new(world.text_neighbours()),
            "popularity": world.new(world.popularity(None)),
            "popularity of its categories": world.new(world.popularity(categories)),
            "random": world.new(world.random(0)),
            "random, expected": {
                "recall@10": round(float(np.mean(10 / (catalogue - seen))), 5),
                "recall@50": round(float(np.mean(50 / (catalogue - seen))), 5),
                "recall@10 among new": round(10 / fresh, 5),
            },
        },
        "known items": {
            "before": world.old(world.before()),
            "refreshed": world.old(world.scorer("map", calibrated["boost"])),
        },
        "boosts": {
            f"{boost:g}": {
                "new": world.new(world.scorer("map", boost)),
                "known": world.old(world.scorer("map", boost)),
            }
            for boost in BOOSTS
        },
    }


def measured(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs of a results file with the same settings: who was stopped goes on."""
    if not path.is_file():
        return []
    figures = read_json(path)["figures"]
    same = all(figures[key] == value for key, value in settings.items())
    return list(figures["runs"]) if same else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=sorted(SPLITS), required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, nargs="+", default=[42])
    parser.add_argument("--cache", type=Path, help="folder that keeps the texts' vectors")
    parser.add_argument("--out", type=Path, default=machine.RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    split, periods = SPLITS[arguments.split]
    model = ModelConfig(dim=arguments.dim, layers=1, max_length=50, dropout=0.3)
    training = TrainingConfig(
        epochs=arguments.epochs,
        patience=arguments.epochs,
        batch_size=arguments.batch_size,
        learning_rate=3e-3,
        warmup_epochs=0.5,
        threads=1,
    )
    rows = [json.loads(line) for line in (arguments.data / "items.jsonl").read_text().splitlines()]
    categories = {str(row["id"]): row["categories"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        snapshot = write_snapshot(arguments.data, work / "snapshot")
        vectors = work / "vectors"
        encode_items(snapshot, TextConfig(), arguments.cache or work / "cache", vectors)
        first, second = (split(arguments.data, *each) for each in periods)
        settings = {
            "protocol": __doc__.split("\n\n")[-1].replace("\n", " ").strip(),
            "model": model.model_dump(),
            "training": training.model_dump(),
            "periods": [each.counts() for each in (first, second)],
        }
        name = f"new_items_{arguments.split}"
        runs = measured(arguments.out / f"{name}.json", settings)
        alone = Cases(second, vectors)
        untrained = {"text neighbours, known items": alone.old(alone.text_neighbours())}
        figures = settings | untrained | {"runs": runs}
        machine.keep(name, PACKAGES, figures, arguments.out)
        for seed in arguments.seed:
            if seed in [run["seed"] for run in runs]:
                continue
            config = training.model_copy(update={"seed": seed})
            world, valid, seconds = train(first, vectors, model, config, "first period")
            run: dict[str, Any] = {"seed": seed, "first": compare_rules(world, valid)}
            world, valid, more = train(second, vectors, model, config, "second period")
            run |= {"second": judge(world, valid, categories), "training_seconds": seconds + more}
            runs.append(run)
            machine.keep(name, PACKAGES, figures, arguments.out)
            print(json.dumps(runs[-1], indent=1), flush=True)


if __name__ == "__main__":
    main()
