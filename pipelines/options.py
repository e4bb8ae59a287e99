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
