"""A run that the compression's gate stops: its page is collected from where the report lies."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from ledger_rows import ledger_row
from rich.console import Console

from components.gate import gate
from components.verdict import KEY, verdict
from pipelines.local import _collect_compression
from pipelines.progress import RunView
from pipelines.runs import Run, new_run
from recommender.errors import KuberecError
from recommender.files import write_json

ROWS = [ledger_row("full"), ledger_row("quantise", 0.12, smaller=3)]


def stopped(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> tuple[Run, list[dict[str, object]]]:
    """A run whose gate failed by a report that an earlier run has in its folder."""
    earlier, run = root / "earlier", new_run(root, "later", "")
    earlier.mkdir()
    (earlier / "compression_page").write_text("the page")
    report = earlier / name
    write_json(report, {"rows": ROWS, KEY: verdict([], KuberecError("gate failed\npage: p"))})
    with pytest.raises(SystemExit):
        gate.python_func(name="a-gate", report=SimpleNamespace(path=report, uri=str(report)))
    with RunView(Console(file=io.StringIO()), run.log) as view:
        view.write(capsys.readouterr().out)
    assert view.errors[:2] == ["gate failed", "page: p"]
    return run, _collect_compression(run, view.errors)


def test_the_page_is_the_runs_and_the_ledger_can_be_shown(tmp_path, capsys):
    run, rows = stopped(tmp_path, "compression_report", capsys)
    assert run.compression.read_text() == "the page"
    assert rows == ROWS


def test_another_gate_leaves_no_page_of_a_compression(tmp_path, capsys):
    run, rows = stopped(tmp_path, "evaluation_report", capsys)
    assert not run.compression.exists()
    assert rows == []
