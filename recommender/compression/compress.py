"""compress(): one step after the other, each measured, and the result held to its budgets."""

import tempfile
import time
from pathlib import Path
from typing import Any

from recommender.compression.candidate import Candidate, Work
from recommender.compression.graphs import write_graphs
from recommender.compression.ledger import MEASURED, budget_checks, measure
from recommender.compression.steps import take
from recommender.errors import require
from recommender.files import atomic_directory, write_json
from recommender.model import load_model, save_model
from recommender.progress import Progress, silent
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import CompressionConfig, ExportConfig

FULL = "full"


def compress(
    model_dir: Path,
    windows_dir: Path,
    config: CompressionConfig,
    export: ExportConfig,
    out_dir: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write compressed/: student/, ranker.onnx (served), ranker_fp32.onnx and ledger.json.

    Returns:
        The ledger: {"rows": one of the full model and one a step, "checks", "measured"}.

    Raises:
        GateFailed: a budget is blown; everything has been written by then, to be looked at.
    """
    model_dir, out_dir = Path(model_dir), Path(out_dir)
    vocabulary = Vocabulary.load(model_dir / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    teacher = load_model(model_dir)
    with (
        atomic_directory(out_dir) as draft,
        tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".compress-") as scratch,
    ):
        work = Work(teacher, splits, export, Path(scratch), progress)
        candidate = Candidate(teacher)
        rows = [measured(FULL, candidate, work, draft, 0.0)]
        for step, name in zip(config.steps, step_names(config), strict=True):
            started = time.perf_counter()
            candidate = take(step, candidate, work)
            rows.append(measured(name, candidate, work, draft, time.perf_counter() - started))
        checks = budget_checks(rows[0], rows[-1], config)
        ledger = {
            "rows": rows,
            "checks": [check.as_dict() for check in checks],
            "measured": MEASURED,
        }
        student_dir = draft / "student"
        student_dir.mkdir()
        save_model(candidate.model, vocabulary.items, student_dir)
        write_json(draft / "ledger.json", ledger)
    require("compress", checks)
    return ledger


def measured(
    name: str, candidate: Candidate, work: Work, folder: Path, seconds: float
) -> dict[str, Any]:
    """The ledger's row of a candidate; its graphs, written into `folder`, replace those there.

    `seconds`: what the step took.
    """
    test, config = work.splits["test"], candidate.model.config
    graphs = write_graphs(candidate, work, folder)
    row = measure(
        name,
        graphs.served,
        test,
        config.max_length,
        work.export.max_seen,
        test.times_for(config),
    )
    return row | {"seconds": round(seconds, 3), "curve": candidate.curve}


def step_names(config: CompressionConfig) -> list[str]:
    """What the ledger calls the steps: their names, numbered where one comes again."""
    kinds = [step.step for step in config.steps]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} {kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]
