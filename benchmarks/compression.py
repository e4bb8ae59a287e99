"""`make bench-compression DATA=…`: the ledger of a dozen recipes, beside what is done without one.

    python -m benchmarks.compression DATA pipelines/configs/movielens-1m.yaml
        [--model FOLDER] [--recipes benchmarks/recipes/*.yaml] [--set training.epochs=2 ...]
        [--users 500] [--work FOLDER] [--out FOLDER] [--again]

DATA is a folder with sequences.txt and items.jsonl (benchmarks.sequence_data); nothing of it is
copied into results. The full model of the config is trained as in a run (or taken from --model,
which must be of the same items), each recipe is a list of steps from a YAML file, and each takes
the same way as in a run: compress(), budgets aside. In the same run, on the same machine and beside
the same full graph, in turns: that graph as torch exports it, onnxruntime's plain dynamic
quantisation, torch eager and torch.compile.

What is done is kept in --work: a benchmark that was stopped goes on where it was, within a recipe
behind its finished steps, and lists of steps that begin alike share them. compression_<data>.json
has the rows, compression_<data>.svg the Pareto front. Training keeps a machine busy for long, and
what else runs on it disturbs the times: --again writes all graphs anew and measures every row once
more, of the models that are kept in --work.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import machine
from benchmarks.compression_again import Again
from benchmarks.compression_sides import SIDES, Full, side
from benchmarks.compression_tables import as_lines, as_markdown, finding
from benchmarks.quality import make_vectors
from benchmarks.sequence_data import write_snapshot, write_windows
from components.image import source_hash
from components.step import state_home
from pipelines.config import RunConfig, load_config
from recommender.compression.compress import compress
from recommender.compression.kept import Stage, stage_name
from recommender.compression.ledger import measured_how
from recommender.compression.stages import FULL
from recommender.errors import KuberecError
from recommender.files import atomic_file, content_fingerprint, fingerprint, read_json
from recommender.model import load_model
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import CompressionConfig
from recommender.training.fit import fit
from reporting.pareto import pareto_plot

RECIPES = Path(__file__).parent / "recipes"
PACKAGES = ("torch", "onnxruntime", "onnx", "numpy")
# A recipe is measured whatever it costs.
LAX = {
    "max_quality_loss": 1,
    "max_slice_quality_loss": 1,
    "min_size_ratio": 1e-9,
    "min_speedup": 1e-9,
    "max_bytes": 2**62,
}


def tell(done: int, total: int, message: str) -> None:
    print(f"  {done}/{total} {message}" if total else f"  {message}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--model", type=Path, help="a trained model, instead of training one")
    parser.add_argument("--recipes", type=Path, nargs="+", default=sorted(RECIPES.glob("*.yaml")))
    parser.add_argument("--set", dest="overrides", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--users", type=int, help="only the first so many, to try this out")
    parser.add_argument("--work", type=Path, help="by default in the state home")
    parser.add_argument("--out", type=Path, default=machine.RESULTS)
    parser.add_argument(
        "--again",
        action="store_true",
        help="nothing is trained: every row that is there is measured anew",
    )
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.overrides)
    recipes = {path.stem: read_recipe(path) for path in arguments.recipes}
    data = arguments.data.resolve()
    name = f"compression_{data.name.replace('-', '')}"
    work = arguments.work or state_home() / "cache" / name
    work.mkdir(parents=True, exist_ok=True)
    windows, snapshot = written(data, work, arguments.users)
    model = arguments.model or full_model(windows, snapshot, config, work)
    subject = {"model": content_fingerprint(model), "windows": content_fingerprint(windows)}
    bench = Bench(config, windows, snapshot, model, work)
    kept = arguments.out / f"{name}.json"
    found = read_json(kept)["figures"] if kept.is_file() else {}
    past = found.get("rows", []) if found.get("subject") == subject else []
    rows = {row["step"]: row for row in past if row["recipe"] == recipes.get(row["step"])}
    wanted = bench.all(recipes, arguments.again)
    if arguments.again:
        wanted, rows = [each for each in wanted if each[0] in rows], {}
    for each, measure in wanted:
        if each not in rows:
            print(each, file=sys.stderr, flush=True)
            rows[each] = measure() | {"recipe": recipes.get(each)}
        # After each, so that a benchmark that is stopped leaves what it has measured.
        done = [rows[known] for known, _ in wanted if known in rows]
        if not arguments.again or len(done) == len(wanted):  # which are half old, half new
            told = keep(name, subject, done, arguments.out)
    print(as_markdown(done), *as_lines(told["finding"]), sep="\n\n")


def read_recipe(path: Path) -> dict[str, Any]:
    """{"about", "steps"} of a YAML file.

    Raises:
        KuberecError: it has other keys; or, from pydantic, a step that there is not.
    """
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict) or set(recipe) != {"about", "steps"}:
        raise KuberecError(f"'{path}': a recipe has the keys about and steps, and no other")
    CompressionConfig(steps=recipe["steps"])
    return recipe


def written(data: Path, work: Path, users: int | None) -> tuple[Path, Path]:
    """windows/ and snapshot/ of the data, made anew: the same files give the same bytes."""
    if users is not None:
        few = work / "few"
        few.mkdir(exist_ok=True)
        lines = (data / "sequences.txt").read_text().splitlines()[:users]
        known = {item for line in lines for item in line.split()[1:]}
        items = [
            line
            for line in (data / "items.jsonl").read_text().splitlines()
            if str(json.loads(line)["id"]) in known
        ]
        (few / "sequences.txt").write_text("\n".join(lines))
        (few / "items.jsonl").write_text("\n".join(items))
        data = few
    for name in ("windows", "snapshot"):
        shutil.rmtree(work / name, ignore_errors=True)
    return write_windows(data, work / "windows"), write_snapshot(data, work / "snapshot")


def full_model(windows: Path, snapshot: Path, config: RunConfig, work: Path) -> Path:
    """Trained as in a run, or found trained; a training that was stopped goes on.

    A model that was trained by earlier code is a full model all the same: what is measured of it
    is not taken from earlier code.
    """
    read = [content_fingerprint(windows), content_fingerprint(snapshot)]
    settings = [each.model_dump() for each in (config.text, config.model, config.training)]
    key = fingerprint([read, settings])[:16]
    out = work / f"model-{key}"
    if not out.is_dir():
        print("full model", file=sys.stderr, flush=True)
        shutil.rmtree(work / "vectors", ignore_errors=True)
        vectors = make_vectors(snapshot, config.text, work)
        resume = work / f"resume-{key}-{source_hash('recommender')}"
        fit(windows, vectors, config.model, config.training, out, resume, tell)
    return out


RowsOf = Callable[[Sequence[Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Bench:
    """What is measured, and on what."""

    config: RunConfig
    windows: Path
    snapshot: Path
    model: Path
    work: Path

    def all(
        self, recipes: Mapping[str, Mapping[str, Any]], again: bool
    ) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
        """Names, and what measures each: the full model first, then sides, then recipes.

        `again`: of models that are there (benchmarks.compression_again).
        """
        rows_of = self.again.rows if again else self.compressed
        return [
            (FULL, lambda: rows_of([])[0]),
            *((name, partial(self.side, name, again)) for name in SIDES),
            *((name, partial(self.recipe, name, each, rows_of)) for name, each in recipes.items()),
        ]

    def side(self, name: str, again: bool) -> dict[str, Any]:
        return side(name, self.full_again if again else self.full, self.work)

    def recipe(self, name: str, recipe: Mapping[str, Any], rows_of: RowsOf) -> dict[str, Any]:
        """The last row, by the recipe's name; the rows before it, without slices, are its way."""
        rows = rows_of(recipe["steps"])
        way = [without(row, "slices", "curve") for row in rows[1:]]
        return rows[-1] | {"step": name, "way": way}

    @cached_property
    def full(self) -> Full:
        self.compressed([])  # whose graph and gains are kept, if they are not yet
        (folder,) = (self.work / "stages").glob(f"*/{stage_name([])}")
        return self._full(Stage.load(folder, load_model(self.model)))

    @cached_property
    def full_again(self) -> Full:
        return self._full(self.again.full)

    def _full(self, stage: Stage) -> Full:
        vocabulary = Vocabulary.load(self.model / "vocabulary.json")
        test = load_windows(self.windows, vocabulary)["test"]
        shape = stage.candidate.model.config
        return Full(self.model, shape, stage, test, self.config.export, self.config.evaluation)

    @cached_property
    def again(self) -> Again:
        return Again(
            self.model,
            self.windows,
            self.snapshot,
            self.work / "stages",
            self.config.export,
            self.config.evaluation,
            self.work / "again",
        )

    def compressed(self, steps: Sequence[Any]) -> list[dict[str, Any]]:
        """The rows of the ledger; finished steps stay."""
        ledger = compress(
            self.model,
            self.windows,
            CompressionConfig.model_validate({**LAX, "steps": steps}),
            self.config.export,
            self.work / "compressed",
            tell,
            evaluation=self.config.evaluation,
            items_dir=self.snapshot,
            work_dir=self.work / "stages",
            code=source_hash("recommender"),
            keep=True,
        )
        return [without(row, "curve") for row in ledger["rows"]]


def without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def keep(
    name: str, subject: Mapping[str, str], rows: Sequence[Mapping[str, Any]], out: Path
) -> dict[str, Any]:
    """Write what there is of the rows, the full model's first, and the plot of it."""
    figures = {
        "subject": dict(subject),
        "measured": measured_how(),
        "finding": finding(rows),
        "rows": list(rows),
    }
    machine.keep(name, PACKAGES, figures, out)
    with atomic_file(out / f"{name}.svg") as draft:
        draft.write_text(pareto_plot(rows, served=None, height=5.0), encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
