"""A compression that was killed goes on behind its finished steps; one that is done keeps none."""

from pathlib import Path

import pytest
from exported_once import exports_once  # noqa: F401 - a fixture
from recommender_data import TINY, random_model, vocabulary, write_windows

from recommender.compression import stages
from recommender.compression.candidate import Candidate
from recommender.compression.compress import compress
from recommender.compression.kept import kept_folder, stage_name
from recommender.errors import GateFailed
from recommender.files import read_json
from recommender.model import save_model
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    EvaluationConfig,
    ExportConfig,
    QuantiseStep,
)

EXPORT = ExportConfig(k=12, max_seen=32)
EVALUATION = EvaluationConfig(bootstrap=1000)
DISTIL = DistilStep(dim=8, layers=1, heads=1, epochs=1, batch_size=16)


class Killed(BaseException):
    """Like a signal: no `except` of ours is for it."""


@pytest.fixture(autouse=True)
def quick_loops(monkeypatch):
    """Nothing here is about times."""
    from recommender.compression.latency import LOOPS, Loop

    for batch in LOOPS:
        monkeypatch.setitem(LOOPS, batch, Loop(calls=10, least=10))
    monkeypatch.setattr("recommender.compression.ledger.memory_growth", lambda *given: 1)


@pytest.fixture
def full(tmp_path) -> Path:
    write_windows(tmp_path / "windows")
    (tmp_path / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), tmp_path / "model")
    return tmp_path


@pytest.fixture
def taken(monkeypatch) -> list[str]:
    """Names of the steps that are taken, not found finished."""
    names: list[str] = []
    real = stages.take

    def take(step, candidate: Candidate, work) -> Candidate:
        names.append(step.step)
        return real(step, candidate, work)

    monkeypatch.setattr(stages, "take", take)
    return names


def run(full: Path, out: str = "out", **changes) -> dict:
    settings = {
        "steps": [DISTIL, QuantiseStep(qat="never")],
        "max_quality_loss": 1.0,
        "max_slice_quality_loss": 1.0,
        "min_size_ratio": 0.01,
        "min_speedup": 1e-6,
    }
    return compress(
        full / "model",
        full / "windows",
        CompressionConfig.model_validate(settings | changes),
        EXPORT,
        full / out,
        evaluation=EVALUATION,
        work_dir=full / "kept",
    )


def kill_at_quantise(monkeypatch):
    """Where the second step's graph would be written."""
    real = stages.write_graphs

    def write_graphs(candidate, *given):
        if candidate.form.quantised is not None:
            raise Killed
        return real(candidate, *given)

    monkeypatch.setattr(stages, "write_graphs", write_graphs)


def left(full: Path) -> list[Path]:
    return [path for path in (full / "kept").glob("*/*") if path.is_dir()]


def test_a_killed_one_goes_on_behind_its_finished_steps(full, taken, monkeypatch):
    with monkeypatch.context() as killing:
        kill_at_quantise(killing)
        with pytest.raises(Killed):
            run(full)
    assert not (full / "out").exists()
    assert len(left(full)) == 2  # the full model and the student; of the third nothing
    assert taken == ["distil", "quantise"]
    taken.clear()
    with pytest.raises(GateFailed, match=r"quantise: bytes \(no step reached it\)"):
        run(full, max_bytes=1)
    assert taken == ["quantise"]
    assert len(left(full)) == 3  # for a config with other budgets, or other steps behind these
    taken.clear()
    resumed = run(full)
    assert not taken
    assert not left(full)

    whole = run(full, "whole")
    assert taken == ["distil", "quantise"]
    for name in ("ranker.onnx", "ranker_fp32.onnx", "student/model.safetensors"):
        assert (full / "out" / name).read_bytes() == (full / "whole" / name).read_bytes(), name
    assert read_json(full / "out" / "ledger.json") == resumed
    for one, other in zip(resumed["rows"], whole["rows"], strict=True):
        for key in ("step", "ndcg@10", "slices", "to_full", "to_before", "bytes", "curve"):
            assert one[key] == other[key], key


def test_a_stage_is_named_by_all_steps_so_far():
    twice = [
        [DISTIL],
        [DISTIL, DISTIL],
        [QuantiseStep(qat="never")],
        [DISTIL, QuantiseStep(qat="never")],
        [],
    ]
    assert len({stage_name(steps) for steps in twice}) == len(twice)
    assert stage_name([DISTIL]) == stage_name([DISTIL.model_copy()])
    assert stage_name([DISTIL]) != stage_name([DISTIL.model_copy(update={"seed": 1})])


def test_two_at_once_do_not_share_a_folder(tmp_path):
    with kept_folder(tmp_path, "a" * 20) as first, kept_folder(tmp_path, "a" * 20) as second:
        assert first != second
        (first / "stage").mkdir()
        with kept_folder(tmp_path, "b" * 20):
            assert (first / "stage").is_dir()  # in use: it stays
    assert not second.exists()
    with kept_folder(tmp_path, "b" * 20):
        assert not first.exists()
