"""What a gate judges: the step before it succeeds and leaves its report, the gate itself fails."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recommender_data import TINY, random_model, vocabulary, write_windows
from test_export_version import EXPORT, FINGERPRINTS, inputs  # noqa: F401 - a fixture

from components.compress import compress
from components.evaluate import evaluate
from components.export_version import export_version
from components.gate import gate
from components.verdict import verdict
from recommender.errors import Check
from recommender.files import content_fingerprint, read_json, write_json
from recommender.model import save_model

READ = {"windows_fingerprint": "w", "model_fingerprint": "m"}


def artifact(path: Path) -> Any:
    return SimpleNamespace(path=str(path), uri=f"s3://bucket/{path.name}")


def judged(
    capsys: pytest.CaptureFixture[str], step: Any, report: Path, **arguments: Any
) -> tuple[Any, str]:
    """Run a component's function, which has to succeed, and its gate, which has to fail.

    Returns:
        the step's result and what the gate said.
    """
    result = step.python_func(**arguments)
    assert "[kuberec:error]" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        gate.python_func(name="the-gate", report=artifact(report))
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert f"[kuberec:error] report: s3://bucket/{report.name}" in said
    return result, said


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
    result, said = judged(
        capsys,
        evaluate,
        target,
        evaluation={"min_ndcg": 1.0},
        evaluation_report=artifact(target),
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'evaluate' failed" in said
    report = read_json(target)
    assert any(not check["passed"] for check in report["gate"])
    assert "model" in report["test"]
    assert result.evaluation_fingerprint == content_fingerprint(target)


def test_compress(model, tmp_path, capsys):
    target = tmp_path / "compression.json"
    result, said = judged(
        capsys,
        compress,
        target,
        compression={"max_bytes": 1, "distillation": {"epochs": 1}},
        export={"k": 10, "max_seen": 20},
        compressed=artifact(tmp_path / "compressed"),
        compression_report=artifact(target),
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'compress' failed" in said
    ledger = read_json(target)
    assert any(not check["passed"] for check in ledger["checks"])
    assert result.compressed_fingerprint == content_fingerprint(tmp_path / "compressed")


def test_export_version(inputs, tmp_path, capsys):  # noqa: F811
    target = tmp_path / "export.json"
    result, said = judged(
        capsys,
        export_version,
        target,
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
    assert any(not row["passed"] for row in report["verdict"]["rows"])
    assert report["version"] == result.version == ""
    assert not (tmp_path / "version").exists()


def test_a_report_without_a_verdict_lets_nothing_through(tmp_path, capsys):
    target = tmp_path / "report.json"
    for content in ('{"verdict": null}', "{}", "[]", "torn"):
        target.write_text(content)
        with pytest.raises(SystemExit):
            gate.python_func(name="the-gate", report=artifact(target))
        assert "has no verdict" in capsys.readouterr().out


def test_a_gate_that_passes_shows_every_number(tmp_path, capsys):
    target = tmp_path / "report.json"
    rows = [Check("ndcg@10", 0.25, ">= 0.1", True).as_dict()]
    write_json(target, {"verdict": verdict(rows, None)})
    gate.python_func(name="the-gate", report=artifact(target))
    said = capsys.readouterr().out
    assert "ok   ndcg@10  0.25  (limit >= 0.1)" in said
    assert "the-gate 1/1 1 checks passed" in said
