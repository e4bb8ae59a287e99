"""The search on this machine: a study's folder, its lines on the screen, its results as files."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from components.image import source_hash
from pipelines.runs import shown
from pipelines.tune_screen import show_results, told_line
from recommender.files import content_fingerprint, ensure_writable, write_json
from tuning.base import Base
from tuning.owner import owner
from tuning.plots import write_page, write_pictures
from tuning.results import Row, best_rows, importances, rows, write_results
from tuning.search import Search, Told, trial_command
from tuning.settings import TuningConfig
from tuning.space import Parameter
from tuning.study import OWNERS, Study


def search_here(
    folder: Path,
    tuning: TuningConfig,
    space: Sequence[Parameter],
    base: Base,
    windows: Path,
    vectors: Path,
    *,
    jobs: int,
    console: Console,
) -> tuple[str, Row | None]:
    """Make or go on with the study in `folder`; how this search ended, and the best trial.

    Raises:
        KuberecError: the study is of other data, base or space; every trial fails; no folder.
    """
    ensure_writable(folder / "tmp")
    base_file = folder / "base.json"
    identity = {
        "space": {each.key: repr(each) for each in space},
        "base config": base.sections(),
        "windows": content_fingerprint(windows / "windows.parquet"),
        "vectors": content_fingerprint(vectors / "vectors.parquet"),
    }
    with owner(folder / OWNERS) as own:
        study = Study(folder, tuning, space, identity, own)
        write_json(base_file, base.sections())
        taken = study.take_over()
        console.print(
            f"study {folder.name}: {study.spent()} of {tuning.trials} trials so far; "
            f"logs in {shown(folder / 'trials')}\n"
            f"windows {shown(windows)}, vectors {shown(vectors)}, code {source_hash('recommender')}"
            + (f"\n{taken} killed trials are tried again" if taken else ""),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

        def say(told: Told) -> None:
            line = told_line(told, study.best(), study.spent(), tuning.trials)
            console.print(escape(line), highlight=False, soft_wrap=True)

        search = Search(
            study,
            base,
            tuning.trials,
            jobs,
            trial_command(base_file, windows.resolve(), vectors.resolve()),
            say,
            tuning.timeout_s,
        )
        ended = search.run()
        found = rows(study.trials())
        importance = importances(study.optuna)
        pictures = write_pictures(study.optuna, folder, bool(importance))
        page = write_page(folder, folder.name, found, importance, pictures)
        write_results(folder, found, importance)
    best = best_rows(found, 1)
    show_results(console, found, importance, page, ended)
    return ended, best[0] if best else None
