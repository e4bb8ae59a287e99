"""What a gate judges: the step before it succeeds and leaves its report, the gate itself fails."""

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from quick_rollouts import ANY_RANKING, quick_rollout
from recommender_data import TINY, random_model, vocabulary, write_windows
from test_export_version import EXPORT, FINGERPRINTS, UNTRACKED, inputs  # noqa: F401 - a fixture
from tiny_version import catalogue, write_tiny_version

from components.compress import compress
from components.evaluate import evaluate
from components.export_version import export_version
from components.gate import gate
from components.rollout import rollout
from components.step import HOME_VARIABLE
from components.verdict import verdict
from recommender.errors import Check
from recommender.files import content_fingerprint, read_json, write_json
from recommender.model import save_model
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports
from serving.settings import ServingConfig

READ = {"windows_fingerprint": "w", "model_fingerprint": "m"}


def artifact(path: Path) -> Any:
    return SimpleNamespace(path=str(path), uri=f"s3://bucket/{path.name}")


def judged(
    capsys: pytest.CaptureFixture[str], step: Any, report: Path, **arguments: Any
) -> tuple[Any, str]:
    """Run a component's function, which has to succeed, and its gate, which has to fail.

    Returns:
        the step's result, and what the step and the gate said.
    """
    result = step.python_func(**arguments)
    told = capsys.readouterr().out
    assert "[kuberec:error]" not in told
    with pytest.raises(SystemExit) as ended:
        gate.python_func(name="the-gate", report=artifact(report))
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert f"[kuberec:error] report: s3://bucket/{report.name}" in said
    return result, told + said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("model")
    (root / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), root / "model")
    return {
        "windows": artifact(write_windows(root / "windows")),
        "trained_model": artifact(root / "model"),
    }


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("snapshot")
    categories = [["drama"] if place % 2 else ["comedy"] for place in range(len(vocabulary()))]
    items = pa.table({"item_id": vocabulary(), "categories": categories})
    pq.write_table(items, folder / "items.parquet")
    return artifact(folder)


def test_evaluate(model, snapshot, tmp_path, capsys):
    target = tmp_path / "evaluation.json"
    result, said = judged(
        capsys,
        evaluate,
        target,
        evaluation={"min_ndcg": 1.0},
        evaluation_report=artifact(target),
        snapshot=snapshot,
        **UNTRACKED,
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'evaluate' failed" in said
    report = read_json(target)
    assert any(not check["passed"] for check in report["gate"])
    assert "model" in report["test"]
    assert result.evaluation_fingerprint == content_fingerprint(target)


def test_compress(model, snapshot, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    target = tmp_path / "compression.json"
    result, said = judged(
        capsys,
        compress,
        target,
        compression={
            "max_bytes": 1,
            "steps": [{"step": "distil", "epochs": 1}, {"step": "quantise"}],
        },
        evaluation={"bootstrap": 1000, "min_slice_users": 5},
        export={"k": 10, "max_seen": 20},
        snapshot=snapshot,
        data_fingerprint="d",
        compressed=artifact(tmp_path / "compressed"),
        compression_report=artifact(target),
        compression_page=artifact(tmp_path / "page"),
        **READ,
        **model,
    )
    assert "[kuberec:error] gate 'compress' failed" in said
    assert "[kuberec:error] page: s3://bucket/page" in said
    for step in ("full", "distil", "quantise"):  # as each was measured
        assert f"[kuberec:note] compress {step}: NDCG@10 0." in said
    shown = html.unescape((tmp_path / "page").read_text(encoding="utf-8"))
    assert "quantise: bytes (no step reached it)" in shown
    assert "category: drama" in shown
    ledger = read_json(target)
    assert any(not check["passed"] for check in ledger["checks"])
    assert {row["slice"] for row in ledger["rows"][1]["slices"]} >= {"drama", "comedy"}
    assert list((tmp_path / "home" / "cache" / "compression").glob("*/*/stage.json"))
    assert result.compressed_fingerprint == content_fingerprint(tmp_path / "compressed")


def test_export_version(inputs, tmp_path, capsys):  # noqa: F811
    target = tmp_path / "export.json"
    result, said = judged(
        capsys,
        export_version,
        target,
        **{name: {} for name in ("source", "text", "features", "model", "training")},
        compression={},
        export=EXPORT | {"parity": {"onnx": {"max_score_difference": 1e-30}}},
        serving={},
        model_version=artifact(tmp_path / "version"),
        export_report=artifact(target),
        **UNTRACKED,
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


def test_a_gate_that_passes_shows_every_number_also_what_nobody_knew(tmp_path, capsys):
    target = tmp_path / "report.json"
    rows = [Check("ndcg@10", 0.25, ">= 0.1", True).as_dict()]
    write_json(target, {"verdict": verdict(rows, None)})
    gate.python_func(name="the-gate", report=artifact(target))
    said = capsys.readouterr().out
    assert "ok   ndcg@10  0.25  (limit >= 0.1)" in said
    assert "the-gate 1/1 1 checks passed" in said

    rows.append(Check("p99", "not known", "<= 20", False).as_dict())
    write_json(target, {"verdict": verdict(rows, None)})
    gate.python_func(name="the-gate", report=artifact(target))
    assert "the-gate 1/1 1 of 2 checks passed" in capsys.readouterr().out


def test_rollout(tmp_path, capsys, monkeypatch):
    """The first version, then one that recommends something else altogether."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    port, admin_port = free_ports(2)
    limits = {**ANY_RANKING, "min_overlap": 1, "min_rbo": 1}
    config = ServingConfig(port=port, admin_port=admin_port, rollout=quick_rollout(ranking=limits))

    def arguments(version: str, prefix: str) -> dict[str, Any]:
        (tmp_path / f"{version}-step").mkdir()
        names = ("rollout_report", "timeline", "timeline_text")
        files = {name: artifact(tmp_path / f"{version}-step" / name) for name in names}
        made = write_tiny_version(tmp_path / version, catalogue(prefix=prefix), version)
        serving = config.model_dump(mode="json", exclude_none=True)
        given = {"serving": serving, "model_version": artifact(made), "version": version}
        tracking = {"enabled": False}
        return {**given, "tracking": tracking, "target": "embedded", **files}

    first, second = arguments("first", "item-"), arguments("second", "other-")
    try:
        rollout.python_func(**first)
        gate.python_func(name="the-gate", report=first["rollout_report"])
        assert "checks passed" in capsys.readouterr().out
        step = tmp_path / "first-step"
        assert "No version served before first" in (step / "timeline").read_text()
        assert "No version served before first" in (step / "timeline_text").read_text()
        assert read_json(step / "rollout_report")["timeline"] is None

        target = tmp_path / "second-step" / "rollout_report"
        rollout.python_func(**second)
        noted = capsys.readouterr().out
        assert "[kuberec:note] rollout step: second gets 50 % of the requests" in noted
        assert "[kuberec:note] rollout 50 %: roll_back: " in noted
        _, said = judged(capsys, SimpleNamespace(python_func=lambda: None), target)
        assert "[kuberec:error] second was rolled back at 50 %, first serves alone: " in said
        assert re.search(r"\[kuberec:error\]   FAIL +top-\d+ overlap", said)
        assert "[kuberec:error] timeline: s3://bucket/timeline" in said
        report = read_json(target)
        assert report["timeline"]["status"] == "rolled_back"
        assert any(not row["passed"] for row in report["verdict"]["rows"])
        page = (tmp_path / "second-step" / "timeline").read_text()
        assert page.count("<svg") == 1
        assert "second was rolled back" in page
        assert "| 50 % |" in (tmp_path / "second-step" / "timeline_text").read_text()

        (tmp_path / "second" / "kuberec.json").write_text("{}")
        with pytest.raises(SystemExit):
            rollout.python_func(**second)
        assert "[kuberec:error]" in capsys.readouterr().out
        assert "no canary" in (tmp_path / "second-step" / "timeline").read_text()
        assert read_json(target)["failed"]
    finally:
        EmbeddedEndpoint(tmp_path / "home").stop_all()
