"""compress(): one step after the other, each measured, and the result held to its budgets."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from recommender import schema
from recommender.compression.budgets import budget_checks
from recommender.compression.candidate import Told, Work
from recommender.compression.catalogue import check_catalogue
from recommender.compression.check import check_scoring, check_steps, settled_scoring
from recommender.compression.kept import EXACT, RANKER, kept_folder
from recommender.compression.ledger import measured_how
from recommender.compression.quality import require_slices
from recommender.compression.stages import Stages
from recommender.errors import require
from recommender.evaluation.catalogue import load_catalogue
from recommender.evaluation.slices import make_slices
from recommender.files import atomic_directory, content_fingerprint, fingerprint, write_json
from recommender.model import load_model, save_model
from recommender.onnx_session import copy_graph
from recommender.progress import Progress, silent
from recommender.sequences import Vocabulary, item_counts, load_windows
from recommender.settings import CompressionConfig, EvaluationConfig, ExportConfig


def compress(
    model_dir: Path,
    windows_dir: Path,
    config: CompressionConfig,
    export: ExportConfig,
    out_dir: Path,
    progress: Progress = silent,
    *,
    evaluation: EvaluationConfig | None = None,
    items_dir: Path | None = None,
    work_dir: Path | None = None,
    code: str = "",
    keep: bool = False,
    row_made: Told = lambda row: None,
) -> dict[str, Any]:
    """Write compressed/: student/, ranker.onnx (served), ranker_fp32.onnx and ledger.json.

    Args:
        evaluation: resamples of the intervals, and how test users are sliced; None: the defaults.
        items_dir: a snapshot's folder; without it there are no slices by category and language.
        work_dir: keeps finished steps of a compression that did not come to its end
            (recommender.compression.kept); None: nothing is kept.
        code: names the code; what other code has left in `work_dir` is not used.
        keep: leave the finished steps in `work_dir` at the end too, for lists that begin alike.
        row_made: told of each row as soon as it is measured.

    Returns:
        The ledger: {"rows": one of the full model and one a step, "checks", "measured"}; the rows'
        keys are in docs/compression.md.

    Raises:
        KuberecError: settings that cannot come to a good end, said before anything is trained; or
            the last candidate has no graph.
        GateFailed: a budget is blown; everything has been written by then, to be looked at.
    """
    model_dir, out_dir = Path(model_dir), Path(out_dir)
    evaluation = evaluation or EvaluationConfig()
    vocabulary = Vocabulary.load(model_dir / "vocabulary.json")
    teacher = load_model(model_dir)
    check_scoring(config.steps, export)
    check_catalogue(config.steps, teacher.config, export, len(vocabulary))
    export = settled_scoring(config.steps, export, len(vocabulary))
    splits = load_windows(windows_dir, vocabulary)
    test = splits["test"]
    test.times_for(teacher.config)  # which says what is missing
    check_steps(config, teacher, splits)
    catalogue = None if items_dir is None else load_catalogue(items_dir, vocabulary)
    counts_N1 = item_counts(splits["train"].histories, len(vocabulary))
    slices = make_slices(test, counts_N1, evaluation, catalogue)
    require_slices(list(config.max_slice_losses), slices, evaluation)

    items = None if items_dir is None else schema.table_path(items_dir, "items")
    read = [content_fingerprint(path) for path in (model_dir, Path(windows_dir), items) if path]
    inputs = fingerprint([read, export.model_dump(), evaluation.model_dump(), code])
    with kept_folder(work_dir, inputs) as kept:
        with (
            atomic_directory(out_dir) as draft,
            tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".compress-") as scratch,
        ):
            work = Work(teacher, splits, export, Path(scratch), progress, row_made)
            stages = Stages(work, vocabulary.items, evaluation, slices, kept).all(
                config.steps, step_names(config)
            )
            rows, last = [stage.row for stage in stages], stages[-1]
            checks = budget_checks(rows, config)
            ledger = {
                "rows": rows,
                "checks": [check.as_dict() for check in checks],
                "measured": measured_how(),
            }
            for name in (RANKER, EXACT):
                copy_graph(last.folder / name, draft / name)
            (draft / "student").mkdir()
            save_model(last.candidate.model, vocabulary.items, draft / "student")
            write_json(draft / "ledger.json", ledger)
        if all(check.passed for check in checks) and not keep:
            shutil.rmtree(kept)
    require("compress", checks)
    return ledger


def step_names(config: CompressionConfig) -> list[str]:
    """What the ledger calls the steps: their names, numbered where one comes again."""
    kinds = [step.step for step in config.steps]
    return [
        kind if kinds.count(kind) == 1 else f"{kind} {kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]
