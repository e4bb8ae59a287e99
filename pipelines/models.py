"""`kuberec models`: the registered model versions, what made them, which of them is best."""

import json
from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines.options import Overrides, console
from pipelines.rollout import AsJson

app = typer.Typer(
    name="models",
    help="Registered model versions: list, compare, promote, and where each came from.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="A run's YAML whose section tracking says which server and model; by default "
        "MLFLOW_TRACKING_URI, or the store of this machine.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name of the registered model, where there are several."),
]
NAMES = "A version: its number, the first letters of its id, an alias, or 'current' (serves now)."
Version = Annotated[str, typer.Argument(metavar="VERSION", help=NAMES)]


@app.command("list")
def list_(
    config: Config = None, model: Model = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """List the versions, newest first: aliases, quality, data, and what serves here now."""
    from pipelines.models_screen import show_list
    from pipelines.models_store import open_models, rows_of

    rows = rows_of(open_models(state_home(), config, overrides or [], model), state_home(), model)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        show_list(rows, console)


@app.command()
def compare(
    one: Version,
    other: Version,
    config: Config = None,
    model: Model = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: settings that differ, metrics, slices, curves' ends."""
    from pipelines.models_screen import show_comparison
    from pipelines.models_store import open_model, pick
    from tracking.compare import compared

    store = open_model(state_home(), config, overrides or [], model)
    pair = [pick(store, state_home(), name) for name in (one, other)]
    found = compared(store, *pair)
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        show_comparison(found, console)


@app.command()
def promote(
    version: Version,
    alias: Annotated[str, typer.Option(help="The alias that it gets.")] = "champion",
    config: Config = None,
    model: Model = None,
    overrides: Overrides = None,
) -> None:
    """Give a version an alias. What serves goes on: this says how to serve it."""
    from pipelines.models_screen import show_promotion
    from pipelines.models_store import check_alias, open_model, pick, served_ids
    from tracking.registry import set_alias

    check_alias(alias)
    store = open_model(state_home(), config, overrides or [], model)
    found = pick(store, state_home(), version)
    before = set_alias(store, found.number, alias)
    serves = found.number in served_ids(store, state_home()).values()
    show_promotion(found, alias, before, serves, console)


@app.command()
def show(
    version: Annotated[str, typer.Argument(metavar="VERSION", help=NAMES)] = "current",
    config: Config = None,
    model: Model = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Trace a version back: its training, settings, fingerprints, and the data it was made of."""
    from pipelines.models_screen import show_lineage
    from pipelines.models_store import open_model, pick
    from tracking.lineage import trace

    store = open_model(state_home(), config, overrides or [], model)
    found = trace(store, pick(store, state_home(), version))
    if as_json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    else:
        show_lineage(found, console)


app.command("lineage", hidden=True)(show)  # what people look for


@app.command()
def ui(
    config: Config = None,
    overrides: Overrides = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default 5000, or a free one.")
    ] = None,
) -> None:
    """Open MLflow's pages on this machine's store, until Ctrl-C; of a server, say the address."""
    from pipelines.models_ui import run_ui

    run_ui(state_home(), config, overrides or [], port, console)
