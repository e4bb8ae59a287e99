"""`kuberec features`: what the feature store holds, and how far it is behind."""

from pathlib import Path
from typing import Annotated

import typer

from components.step import state_home
from pipelines import features_replay
from pipelines.options import console

app = typer.Typer(
    name="features",
    help="Look at the feature store: rows, lag, owners; compare what was served with its data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Keeps `status` a subcommand where it is the only one."""


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Look at every key of Redis. Without it, of more than 20,000 keys that many are "
            "looked at, and rows are estimated (~).",
        ),
    ] = False,
    prometheus: Annotated[
        Path | None,
        typer.Option(
            "--prometheus",
            metavar="FILE",
            help="Also write the numbers for node_exporter's textfile collector; FILE ends in "
            ".prom. Where the store is down, it says so: kuberec_feature_store_up 0.",
        ),
    ] = None,
) -> None:
    """Show each view's rows, lag, last materialisation, owner, and the versions that read it.

    Of the embedded store in KUBEREC_HOME, or of the one whose feature_store.yaml
    FEAST_FS_YAML_FILE_PATH names. Ends with status 1 where a store does not answer.
    """
    from pipelines.features_status import print_status

    print_status(state_home(), console, as_json=as_json, exact=exact, prometheus=prometheus)


app.command("replay")(features_replay.replay)
