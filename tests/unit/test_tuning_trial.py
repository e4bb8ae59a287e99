"""The trial itself, with real training: what it prints, when it stops, what it never looks at."""

import io

import pyarrow.parquet as pq
import pytest
from recommender_data import write_vectors, write_windows
from tuning_scene import BASE

from recommender.files import write_json
from tuning import trial
from tuning.process import METRIC
from tuning.trial import OBJECTIVE


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_json(folder / "base.json", BASE.sections())
    write_windows(folder / "windows")
    write_vectors(folder / "vectors")
    return folder


def run(inputs, capsys, *more):
    folders = ["--windows", str(inputs / "windows"), "--vectors", str(inputs / "vectors")]
    code = trial.main([*folders, "--base", str(inputs / "base.json"), *more])
    captured = capsys.readouterr()
    lines = [
        dict(found[:2] for found in METRIC.findall(line)) for line in captured.out.splitlines()
    ]
    return code, [float(numbers[OBJECTIVE]) for numbers in lines], captured.err


def test_it_tells_every_epoch_and_depends_on_its_values_alone_not_on_the_test_split(inputs, capsys):
    code, first, _ = run(inputs, capsys, "--set=model.dim=8")
    assert code == 0
    assert len(first) == BASE.training.epochs
    path = inputs / "windows" / "windows.parquet"
    table = pq.read_table(path)
    targets = table["target"].to_pylist()
    other = [
        "i00" if split == "test" else target
        for split, target in zip(table["split"].to_pylist(), targets, strict=True)
    ]
    assert other != targets
    place = table.column_names.index("target")
    pq.write_table(table.set_column(place, "target", [other]), path)
    assert run(inputs, capsys, "--set=model.dim=8")[1] == first
    assert run(inputs, capsys, "--set=model.dim=16")[1] != first


def test_it_stops_after_the_epoch_that_the_search_says_no_to(inputs, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("go on\nstop\n"))
    code, told, _ = run(inputs, capsys, "--ask")
    assert (code, len(told)) == (0, 2)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # the search is gone
    assert len(run(inputs, capsys, "--ask")[1]) == 1


def test_a_refused_config_scores_nothing_and_says_why(inputs, capsys):
    code, told, said = run(inputs, capsys, "--set=model.dim=9")
    assert (code, told) == (0, [0.0])
    assert "refused: model: dim (9) must be a multiple of heads (2)" in said


def test_what_cannot_be_trained_is_an_error_with_its_message(inputs, capsys):
    code = trial.main(["--windows", "x", "--vectors", "y", "--base", str(inputs / "none.yaml")])
    assert code == 1
    assert "error: cannot read the base config" in capsys.readouterr().err
