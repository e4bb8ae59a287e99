"""Which windows and vectors `kuberec tune` and `find-lr` take; a rate test at the command line."""

from pathlib import Path

import pytest
import yaml
from recommender_data import write_vectors, write_windows
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.config import ConfigError, RunConfig, load_config
from pipelines.training_inputs import training_inputs
from recommender.errors import KuberecError
from recommender.files import write_json

CONFIG = Path(__file__).resolve().parents[2] / "pipelines/configs/movielens-100k.yaml"


def write_run(runs: Path, name: str, run: RunConfig, *steps: str) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    content = run.model_dump(mode="json", exclude_unset=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    write_json(folder / "run.json", {"status": "succeeded", "started": f"2026-01-0{name[-1]}"})
    for step in steps:
        write = write_windows if step.endswith("windows") else write_vectors
        write(folder / "steps/recommender" / step)
    return folder


def test_they_are_of_the_newest_runs_with_the_same_data(tmp_path: Path) -> None:
    run = load_config(CONFIG)
    windows, vectors = "build-features/windows", "encode-items/item_vectors"
    first = write_run(tmp_path, "run-1", run, windows, vectors)
    # It took the windows from the first one's result, and so has none of its own.
    second = write_run(tmp_path, "run-2", run, vectors)
    write_run(tmp_path, "run-3", load_config(CONFIG, ["features.k_core=7"]), windows, vectors)
    other_training = load_config(CONFIG, ["training.epochs=3"])
    assert training_inputs(other_training, tmp_path, None, None) == (
        first / "steps/recommender" / windows,
        second / "steps/recommender" / vectors,
    )


def test_what_cannot_be_found_or_is_given_by_half_is_said(tmp_path: Path) -> None:
    run = load_config(CONFIG)
    with pytest.raises(KuberecError, match=r"no run in .* has made windows and vectors"):
        training_inputs(run, tmp_path, None, None)
    with pytest.raises(ConfigError, match="give both --windows and --vectors, or neither"):
        training_inputs(run, tmp_path, tmp_path, None)
    assert training_inputs(run, tmp_path, tmp_path / "w", tmp_path / "v") == (
        tmp_path / "w",
        tmp_path / "v",
    )


def test_a_rate_is_suggested_with_its_curve(tmp_path: Path) -> None:
    folders = []
    for name, write in (("windows", write_windows), ("vectors", write_vectors)):
        folders += [f"--{name}", str(write(tmp_path / name))]
    small = ["--set", "model.dim=16", "--set", "training.batch_size=8", "--steps", "40"]
    plot = tmp_path / "curve.png"
    done = CliRunner().invoke(app, ["find-lr", str(CONFIG), *folders, *small, "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    line = next(line for line in done.output.splitlines() if "training.learning_rate=" in line)
    assert 1e-6 < float(line.split("=")[-1]) < 1.0
    assert plot.read_bytes().startswith(b"\x89PNG")
