"""Options that `push` and `follow` share; light to import."""

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The run's YAML, if its filters or keys are not those of the store."
    ),
]
UserIds = Annotated[
    str,
    typer.Option(
        "--user-ids",
        metavar="source|stored",
        help="How events name users: as the source does (pseudonyms are made here), or as the "
        "store does.",
    ),
]
EventTypes = Annotated[
    list[str] | None,
    typer.Option("--event-type", help="Only events of this type count; of one event, its type."),
]
TimeUnit = Annotated[
    str, typer.Option("--time-unit", metavar="s|ms|us", help="Of times that are numbers.")
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="Of times without one; otherwise they are refused."
    ),
]
MaxAhead = Annotated[
    float,
    typer.Option(
        "--max-ahead", min=0, metavar="SECONDS", help="Events farther in the future are refused."
    ),
]
RejectsPath = Annotated[
    Path | None,
    typer.Option(
        "--rejects",
        help="Refused events are added to this file, with the reason. Default: "
        ".kuberec/live/rejects.jsonl",
    ),
]
