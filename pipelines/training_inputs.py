"""What a training outside a run is given: windows and item vectors."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from pipelines.config import ConfigError, RunConfig
from pipelines.runs import list_runs
from recommender.errors import KuberecError

# Runs that share these sections share windows and vectors too, by the pipeline's cache.
DATA_SECTIONS = ("source", "validation", "text", "features")


def require_both(windows: Path | None, vectors: Path | None) -> None:
    """Raise a ConfigError where one is given without the other."""
    if (windows is None) != (vectors is None):
        raise ConfigError("give both --windows and --vectors, or neither")


def training_inputs(
    run: RunConfig, runs: Path, windows: Path | None, vectors: Path | None
) -> tuple[Path, Path]:
    """`windows` and `vectors` as given, or those of the newest runs with the same data sections.

    Not always of one run: a run that reuses a step's result has no folder of that step.

    Raises:
        KuberecError: one is given without the other, or no such run has made them.
    """
    require_both(windows, vectors)
    if windows and vectors:
        return windows, vectors
    for each in list_runs(runs):
        if windows and vectors:
            break
        if not _same_data(run, each.folder / "config.yaml"):
            continue
        windows = windows or _artifact(each.folder, "build-features/windows", "windows.parquet")
        vectors = vectors or _artifact(each.folder, "encode-items/item_vectors", "vectors.parquet")
    if windows is None or vectors is None:
        raise KuberecError(
            f"no run in '{runs}' has made windows and vectors of this config's data: run "
            "`kuberec run` with it first (what stands after build-features is not needed), name "
            "the folder of runs by --runs, or give --windows and --vectors"
        )
    return windows, vectors


def _same_data(run: RunConfig, path: Path) -> bool:
    try:
        other = RunConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError):  # of an older program, or half written
        return False
    return all(getattr(other, name) == getattr(run, name) for name in DATA_SECTIONS)


def _artifact(run: Path, name: str, file: str) -> Path | None:
    found = [path for path in sorted(run.glob(f"steps/*/{name}")) if (path / file).is_file()]
    return found[-1] if found else None
