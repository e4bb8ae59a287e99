"""What several commands of `kuberec` share; light to import."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()

ConfigPath = Annotated[Path, typer.Argument(help="A run's YAML, as in pipelines/configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the YAML."),
]
RunsFolder = Annotated[Path, typer.Option("--runs", envvar="KUBEREC_RUNS", help="Folder of runs.")]
WindowsFolder = Annotated[
    Path | None,
    typer.Option(
        "--windows", help="Folder of windows.parquet; by default of this config's latest run."
    ),
]
VectorsFolder = Annotated[
    Path | None,
    typer.Option(
        "--vectors", help="Folder of vectors.parquet; by default of this config's latest run."
    ),
]
