"""`kuberec rollout`: what a rollout is at, how earlier ones went, and an operator's decisions."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines.options import Overrides, console

app = typer.Typer(
    name="rollout",
    help="Look at a rollout, decide about it, read how earlier ones went.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Where(StrEnum):
    EMBEDDED, KSERVE = "embedded", "kserve"


WhereOption = Annotated[
    Where, typer.Option("--target", "-t", help="The endpoint of this machine, or a cluster's.")
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="A run's YAML whose section serving.kubernetes says where: for --target kserve.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def status(
    target: WhereOption = Where.EMBEDDED,
    config: Config = None,
    overrides: Overrides = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Again and again, until the rollout ends; with --json, a line each time.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show who serves with which share, the step, its latest verdict, and what comes next."""
    from pipelines.rollout_screen import show_status, status_of, watch_json, watch_status
    from pipelines.rollout_target import find_target

    found = find_target(target.value, state_home(), config, overrides or [])
    if watch and as_json:
        watch_json(found)
    elif watch:
        watch_status(found, console)
    elif as_json:
        print(json.dumps(status_of(found), ensure_ascii=False, indent=2))
    else:
        show_status(status_of(found), console)


@app.command()
def promote(
    target: WhereOption = Where.EMBEDDED, config: Config = None, overrides: Overrides = None
) -> None:
    """Let the canary take over now, whatever the evidence; it is the champion then.

    Where a process is at the rollout it is told so, and this waits until it is done.
    """
    _decide("promote", target, config, overrides)


@app.command()
def abort(
    target: WhereOption = Where.EMBEDDED, config: Config = None, overrides: Overrides = None
) -> None:
    """Give the canary up: all requests go to the version that served before.

    Where a process is at the rollout it is told so, and this waits until it is done.
    """
    _decide("abort", target, config, overrides)


@app.command()
def history(
    target: WhereOption = Where.EMBEDDED,
    config: Config = None,
    overrides: Overrides = None,
    rollout_id: Annotated[
        str | None, typer.Option("--id", help="Show this one in full; its first letters will do.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write its page, with plots; by default of the latest."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the rollouts, newest first, or show one of them in full."""
    from pipelines.rollout_screen import pick, show_history, show_one
    from pipelines.rollout_target import find_target

    known = find_target(target.value, state_home(), config, overrides or []).history()
    if html is not None:
        from reporting.rollout_files import write_timeline

        write_timeline(pick(known, rollout_id), html)
        console.print(f"wrote {html}", highlight=False, markup=False, soft_wrap=True)
    elif as_json:
        rows = known if rollout_id is None else [pick(known, rollout_id)]
        dumped = [each.model_dump(mode="json") for each in rows]
        print(json.dumps(dumped, ensure_ascii=False, indent=2))
    elif rollout_id is not None:
        show_one(pick(known, rollout_id), console)
    else:
        show_history(known, console)


def _decide(what: str, target: Where, config: Path | None, overrides: list[str] | None) -> None:
    from components.champion import serves_after
    from pipelines.champion import mark_champion
    from pipelines.models_store import tracking_of
    from pipelines.rollout_decide import decide
    from pipelines.rollout_target import find_target
    from serving.rollout.record import Rollout

    home = state_home()
    found = find_target(target.value, home, config, overrides or [])
    section = None if config is None else tracking_of(config, overrides or [])

    def after(ended: Rollout) -> None:
        if version := serves_after(ended):
            mark_champion(version, home, console, section)

    decide(found, what, console, after=after)
