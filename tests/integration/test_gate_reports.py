"""A gate that fails has written its report before it ends the step, so that it can be seen."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recommender_data import TINY, random_model, vocabulary, write_windows
from test_export_version import EXPORT, FINGERPRINTS, inputs  # noqa: F401 - a fixture

from components.compress import compress
from components.evaluate import evaluate
from components.export_version import export_version
from recommender.files import read_json
from recommender.model import save_model

READ = {"windows_fingerprint": "w", "model_fingerprint": "m"}


def artifact(path: Path) -> Any:
    return SimpleNamespace(path=str(path))


def fails(capsys: pytest.CaptureFixture[str], step: Any, **arguments: Any) -> str:
    """Run a component's function, which has to end its process; what it printed."""
    with pytest.raises(SystemExit) as ended:
        step.python_func(**arguments)
    assert ended.value.code == 1
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("model")
    (root / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), root / "model")
    return {
        "windows": artifact(write_windows(root / "windows")),
        "trained_model": artifact(root / "model"),
    }


def test_evaluate(model, tmp_path, capsys):
    target = tmp_path / "evaluation.json"
    said = fails(
        capsys,
        evaluate,
        evaluation={"min_ndcg": 1.0},
        evaluation_report=artifact(target),
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'evaluate' failed" in said
    report = read_json(target)
    assert any(not check["passed"] for check in report["gate"])
    assert "model" in report["test"]


def test_compress(model, tmp_path, capsys):
    said = fails(
        capsys,
        compress,
        compression={"max_bytes": 1, "distillation": {"epochs": 1}},
        export={"k": 10, "max_seen": 20},
        compressed=artifact(tmp_path / "compressed"),
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'compress' failed" in said
    ledger = read_json(tmp_path / "compressed" / "ledger.json")
    assert any(not check["passed"] for check in ledger["checks"])


def test_export_version(inputs, tmp_path, capsys):  # noqa: F811
    target = tmp_path / "export.json"
    said = fails(
        capsys,
        export_version,
        **{name: {} for name in ("source", "text", "features", "model", "training")},
        compression={},
        export=EXPORT | {"max_score_difference": 1e-30},
        serving={},
        model_version=artifact(tmp_path / "version"),
        export_report=artifact(target),
        **FINGERPRINTS,
        **inputs,
    )
    assert "[kuberec:error] gate 'export' failed" in said
    report = read_json(target)
    assert any(not row["passed"] for row in report["rows"])
    assert "failed" in report
    assert not (tmp_path / "version").exists()
