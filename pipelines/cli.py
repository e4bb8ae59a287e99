"""The `kuberec` command. Heavy imports stay inside the commands, so that --help answers at once."""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from components.step import state_home
from pipelines import features, models
from pipelines import items as items_commands
from pipelines import rollout as rollout_commands
from pipelines.cluster import commands
from pipelines.engine import engine
from pipelines.erase import command as erase
from pipelines.events import command as events
from pipelines.find_rate import find_lr
from pipelines.options import ConfigPath, Overrides, RunsFolder, console
from pipelines.tune import tune
from recommender.errors import KuberecError

app = typer.Typer(
    name="kuberec",
    help="From raw events to recommendations served by Triton: on this machine or on Kubernetes.",
    epilog="Start with: kuberec run pipelines/configs/movielens-100k.yaml",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command()
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    runs_folder: RunsFolder = Path("runs"),
    cache: Annotated[
        bool, typer.Option(help="Reuse steps whose inputs and code have not changed.")
    ] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the whole output of every step.")
    ] = False,
) -> None:
    """Run the whole pipeline on this machine, up to an endpoint that serves."""
    from pipelines.config import load_config
    from pipelines.keeper import start_keeper
    from pipelines.local import run_locally
    from pipelines.screen import show_summary

    loaded = load_config(config, overrides or [])
    if loaded.source.acknowledgement:
        console.print(loaded.source.acknowledgement, style="dim", highlight=False, markup=False)
    finished = run_locally(loaded, runs_folder, state_home(), console, cache=cache, verbose=verbose)
    start_keeper(state_home())
    show_summary(finished, console)


app.command("compile")(commands.compile_)
app.command()(commands.submit)
app.command()(commands.schedule)
app.command()(commands.deploy)
app.command()(engine)
app.command("erase-user")(erase.erase_user)
app.command()(erase.pseudonym)
app.command()(tune)
app.command("find-lr")(find_lr)


app.add_typer(rollout_commands.app)
app.add_typer(items_commands.app)
app.add_typer(models.app)
app.add_typer(features.app)
app.add_typer(events.app)


@app.command()
def runs(runs_folder: RunsFolder = Path("runs")) -> None:
    """List the runs: state, quality, version, report."""
    from pipelines.screen import show_runs

    show_runs(runs_folder, console)


@app.command()
def card(
    run: Annotated[
        str | None, typer.Argument(help="A run's id; by default the newest that has a card.")
    ] = None,
    runs_folder: RunsFolder = Path("runs"),
) -> None:
    """Print a run's model card, as Markdown."""
    from pipelines.runs import card_of

    print(card_of(runs_folder, run), end="")


@app.command()
def recommend(
    user: Annotated[
        str | None, typer.Option("--user", "-u", help="The endpoint looks the history up.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option("--item", "-i", help="Give the history by item ids, oldest first."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-x", help="An item that must not come back; repeatable."),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="How many items; by default up to 10.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds to wait for the answer.")
    ] = 10.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs, without a user's history.")
    ] = False,
) -> None:
    """Ask the running endpoint for recommendations."""
    from pipelines.recommend import recommend as ask
    from pipelines.screen import show_recommendations

    answer = ask(
        state_home(),
        user=user,
        history=history,
        exclude=exclude or [],
        k=k,
        timeout_s=timeout_s,
        read_history=not as_json,  # by Feast, which takes seconds to load
    )
    show_recommendations(answer, console, as_json=as_json)


@app.command()
def serve(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="REST and gRPC, both on this port.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it serves; kuberec stop ends it.")
    ] = False,
) -> None:
    """Serve the current model version, until Ctrl-C."""
    from pipelines.serve import serve as work

    work(state_home(), console, port=port, detach=detach)


@app.command()
def status() -> None:
    """Show what serves, where, and the version kept for a way back."""
    from pipelines.serve import show_status

    show_status(state_home(), console)


@app.command()
def rollback() -> None:
    """Switch to the version that served before; no request is lost.

    While a canary is under way this is an operator's change like any other: the rollout notices it,
    ends, and touches nothing. To give a canary up: kuberec rollout abort.
    """
    from pipelines.serve import rollback as work

    work(state_home(), console)


@app.command()
def stop() -> None:
    """End every process of the endpoint."""
    from pipelines.serve import stop as work

    work(state_home(), console)


def main() -> Any:
    """Entry point: a KuberecError is shown as its message, and ends with status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?" for "→"
    try:
        return app()
    except KuberecError as error:
        Console(stderr=True, soft_wrap=True).print(
            f"[red]error:[/red] {str(error).replace('[', chr(92) + '[')}", highlight=False
        )
        sys.exit(1)
