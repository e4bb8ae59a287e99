"""`kuberec tune`: search a space of a run's settings, here or as an Experiment of Katib's."""

from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines.options import (
    ConfigPath,
    Overrides,
    RunsFolder,
    VectorsFolder,
    WindowsFolder,
    console,
)

SPACE = Path(__file__).parent / "spaces" / "transformer.yaml"


def tune(
    config: ConfigPath,
    overrides: Overrides = None,
    space: Annotated[
        Path, typer.Option("--space", help="What is searched, as in pipelines/spaces/.")
    ] = SPACE,
    trials: Annotated[
        int | None, typer.Option(min=1, help="The study's trials in all; by default the space's.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trials side by side, each a process of its own.")
    ] = 1,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", min=0.001, help="Seconds; what runs then is tried again later."),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Name; the same name goes on with its trials. By default run-space."),
    ] = None,
    windows: WindowsFolder = None,
    vectors: VectorsFolder = None,
    runs_folder: RunsFolder = Path("runs"),
    write_config: Annotated[
        Path | None,
        typer.Option("--write-config", help="Write the run's YAML with the best values here."),
    ] = None,
    katib: Annotated[
        Path | None,
        typer.Option(
            "--katib",
            help="Run nothing: write a Katib Experiment of the same search here (-: print it). "
            "--windows and --vectors are then folders in the trials' pods.",
        ),
    ] = None,
) -> None:
    """Search for better settings, by the score on validation; Ctrl-C ends it, and it can go on.

    The test split is not looked at: evaluate what was found by a run of the written config.
    """
    from pipelines.config import load_config
    from pipelines.training_inputs import require_both, training_inputs
    from pipelines.tune_inputs import read_space, write_best_config
    from tuning.base import Base
    from tuning.space import check_space

    run = load_config(config, overrides or [])
    tuning = read_space(space, trials=trials, timeout_s=timeout_s)
    base = Base(run.model, run.training)
    parameters = check_space(tuning, base)
    name = study or f"{run.name}-{space.stem}"
    require_both(windows, vectors)
    if katib:
        from pipelines.tune_katib import write_experiment

        write_experiment(
            katib, run.cluster, name, tuning, parameters, base, windows, vectors, parallel=jobs
        )
        return
    from pipelines.tune_local import search_here

    windows, vectors = training_inputs(run, runs_folder, windows, vectors)
    folder = state_home() / "studies" / name
    ended, best = search_here(
        folder, tuning, parameters, base, windows, vectors, jobs=jobs, console=console
    )
    if write_config and best:
        write_best_config(write_config, config, overrides or [], best, name)
        console.print(f"written: {write_config}", highlight=False, markup=False)
    if ended == "interrupted":
        raise typer.Exit(130)
