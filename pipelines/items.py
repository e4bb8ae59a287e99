"""`kuberec items`: the items that the running model version knows."""

from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines.options import Overrides, console
from pipelines.rollout import AsJson, Where, WhereOption

app = typer.Typer(
    name="items",
    help="The items that the running model version knows, and those that are to join them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def refresh(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="A run's YAML: where items come from, and how to roll out. By default both are as "
            "of the running version.",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            "--items",
            help="Read this file instead of the source's: csv, tsv, jsonl or parquet, with the "
            "columns of the source's items.",
        ),
    ] = None,
    target: WhereOption = Where.EMBEDDED,
    overrides: Overrides = None,
    boost: Annotated[
        float | None,
        typer.Option(
            help="Added to new items' scores; by default what the export found for this model, "
            "so that they get as much room in lists as known items for their events."
        ),
    ] = None,
    max_new: Annotated[
        int | None,
        typer.Option(
            "--max-new",
            min=1,
            help="Refuse more new items than that; by default as many as the model was trained on.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is new, and change nothing.")
    ] = False,
    rollout: Annotated[
        bool, typer.Option(help="Roll the new version out; else it is only made.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Let items that came after the training join the running model version.

    They get vectors from their texts; a new version with the same weights and a larger item index
    is rolled out like any other, as a canary. Known items keep their scores. Where nothing is new,
    nothing changes; run again after a kill, it goes on.

    Items that are gone from the source stay: they leave with the next training. A known item whose
    text has changed keeps its vector until then.

    Example: kuberec items refresh --items new-films.csv
    """
    from pipelines.items_refresh import Options, refresh_items
    from pipelines.items_screen import show

    options = Options(config, items, target.value, boost, max_new, dry_run, rollout)
    show(refresh_items(state_home(), options, overrides or [], console, as_json), console, as_json)
