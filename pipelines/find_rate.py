"""`kuberec find-lr`: a learning rate to start from, by a range test."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import (
    ConfigPath,
    Overrides,
    RunsFolder,
    VectorsFolder,
    WindowsFolder,
    console,
)


def find_lr(
    config: ConfigPath,
    overrides: Overrides = None,
    windows: WindowsFolder = None,
    vectors: VectorsFolder = None,
    runs_folder: RunsFolder = Path("runs"),
    steps: Annotated[int, typer.Option(min=20, help="Steps from the lowest to the highest.")] = 150,
    lowest: Annotated[float, typer.Option(help="Learning rate of the first step.")] = 1e-6,
    highest: Annotated[float, typer.Option(help="Learning rate of the last step.")] = 1.0,
    plot: Annotated[Path, typer.Option(help="Where the curve is drawn, as a PNG.")] = Path(
        "find-lr.png"
    ),
) -> None:
    """Suggest a learning rate: train a copy of the model while the rate rises, and see it fall.

    Nothing of it is kept but the curve. The rate depends on model, batch size and data: test again
    when they change.
    """
    from pipelines.config import load_config
    from pipelines.training_inputs import training_inputs
    from recommender.training.find_rate import find_rate
    from reporting.rate_plot import draw_rate_test

    run = load_config(config, overrides or [])
    windows, vectors = training_inputs(run, runs_folder, windows, vectors)
    with console.status("testing learning rates") as status:
        test = find_rate(
            windows,
            vectors,
            run.model,
            run.training,
            lowest,
            highest,
            steps,
            lambda done, of, text: status.update(f"step {done} of {of}: {text}"),
        )
    draw_rate_test(test.rates, test.losses, test.suggestion, plot)
    lines = (
        f"Suggested: {test.suggestion:.2g}; the loss is lowest at {test.best:.2g} "
        f"(training.learning_rate is {run.training.learning_rate:g}). Curve: {plot}",
        "Try it by a line of the YAML's section training, or by an option:",
        f"  learning_rate: {test.suggestion:.2g}",
        f"  --set training.learning_rate={test.suggestion:.2g}",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
