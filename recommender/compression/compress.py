"""compress(): distil, quantise, measure, and hold the result to its budgets."""

from pathlib import Path
from typing import Any

from recommender.compression.distill import distil
from recommender.compression.ledger import MEASURED, budget_checks, measure, ranker_inputs
from recommender.compression.quantize import calibration_histories, quantize_ranker
from recommender.errors import require
from recommender.export import export_ranker
from recommender.files import atomic_directory, write_json
from recommender.model import load_model, save_model
from recommender.progress import Progress, silent
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import CompressionConfig, ExportConfig


def compress(
    model_dir: Path,
    windows_dir: Path,
    config: CompressionConfig,
    export: ExportConfig,
    out_dir: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write compressed/: student/, ranker.onnx (INT8), ranker_fp32.onnx and ledger.json.

    Returns:
        The ledger: {"rows": [full, distilled, distilled + INT8], "checks", "measured", "curve"}.

    Raises:
        GateFailed: a budget is blown; everything has been written by then, to be looked at.
    """
    model_dir, out_dir = Path(model_dir), Path(out_dir)
    vocabulary = Vocabulary.load(model_dir / "vocabulary.json")
    splits = load_windows(windows_dir, vocabulary)
    teacher = load_model(model_dir)
    student, curve = distil(teacher, splits, config.distillation, progress)
    with atomic_directory(out_dir) as draft:
        graphs = {
            "full": draft / "full.onnx",
            "distilled": draft / "ranker_fp32.onnx",
            "distilled + INT8": draft / "ranker.onnx",
        }
        export_ranker(teacher, graphs["full"], export.k, export.max_seen)
        export_ranker(student, graphs["distilled"], export.k, export.max_seen)
        length = teacher.config.max_length
        calibration, calibration_times = calibration_histories(
            splits["train"].histories,
            config.quantization.calibration_requests,
            config.distillation.seed,
            splits["train"].times_for(teacher.config),
        )
        quantize_ranker(
            graphs["distilled"],
            graphs["distilled + INT8"],
            config.quantization,
            *ranker_inputs(calibration, length, export.max_seen, calibration_times),
        )
        times = splits["test"].times_for(teacher.config)
        rows = [
            measure(step, path, splits["test"], length, export.max_seen, times)
            for step, path in graphs.items()
        ]
        graphs["full"].unlink()
        checks = budget_checks(rows[0], rows[-1], config)
        ledger = {
            "rows": rows,
            "checks": [check.as_dict() for check in checks],
            "measured": MEASURED,
            "curve": curve,
        }
        student_dir = draft / "student"
        student_dir.mkdir()
        save_model(student, vocabulary.items, student_dir)
        write_json(draft / "ledger.json", ledger)
    require("compress", checks)
    return ledger
