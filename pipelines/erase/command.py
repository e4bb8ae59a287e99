"""`kuberec erase-user` and `kuberec pseudonym`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.erase.report import Report
from pipelines.options import ConfigPath, Overrides, RunsFolder, console
from recommender.errors import KuberecError

OldKeys = Annotated[
    list[str] | None,
    typer.Option("--old-key", metavar="VARIABLE", help="A key of before a rotation; repeatable."),
]


class NotErased(KuberecError):
    """Something of a user is still there."""


def erase_user(
    user_id: Annotated[str, typer.Argument(help="As the source has it, also with pseudonyms.")],
    config: ConfigPath,
    overrides: Overrides = None,
    runs: RunsFolder = Path("runs"),
    old_keys: OldKeys = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what there is, and change nothing.")
    ] = False,
) -> None:
    """Erase a user's data from runs, increments, feature stores and logs, and keep them out.

    The source itself is not changed: erase the user there too. What was ingested later than that
    leaves the user out all the same. Exit status 1 says that something is left.
    """
    from components.step import state_home
    from pipelines.config import load_config
    from pipelines.erase.erase import erase_user as work
    from pipelines.erase.erase import model_versions
    from pipelines.local import alone
    from recommender.files import ensure_writable

    loaded = load_config(config, overrides or [])
    home = state_home()
    with alone(ensure_writable(home)):
        report = work(
            user_id,
            loaded.source,
            home=home,
            runs=runs,
            old_keys=old_keys or [],
            dry_run=dry_run,
            request_log=loaded.serving.transformer.request_log,
        )
    _show(report, console)
    versions = model_versions([home, *([runs] if runs.is_dir() else [])])
    for note in _not_reached(versions):
        console.print(Text(f"· {note}"), style="dim")
    if report.is_left:
        raise NotErased("not everything was erased: see the table's last column")


def pseudonym(
    user_ids: Annotated[list[str], typer.Argument(help="As the source has them.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="A run's YAML.")],
    overrides: Overrides = None,
) -> None:
    """Print users' pseudonyms: what the endpoint knows them by; a line each."""
    from ingestion.privacy.pseudonyms import pseudonym as of
    from ingestion.privacy.pseudonyms import user_key
    from pipelines.config import load_config

    key = user_key(load_config(config, overrides or []).source.privacy)
    if key is None:
        raise KuberecError(
            f"{config} has no source.privacy.user_key_env: users are known by their own ids"
        )
    for user_id in user_ids:
        typer.echo(of(user_id, key))


def _show(report: Report, screen: Console) -> None:
    if not report.found:
        screen.print("nothing of this user is here")
        return
    table = Table(box=SIMPLE_HEAD)
    for name in ("where", "what", ""):
        table.add_column(name, overflow="fold")  # a path that is cut short is of no use
    for each in report.found:
        style = "red" if each.left else ""
        table.add_row(Text(_short(each.place)), Text(each.what), Text(each.done, style=style))
    screen.print(table)


def _short(place: str) -> str:
    from pipelines.runs import shown

    return shown(Path(place)) if place.startswith("/") else place


def _not_reached(versions: list[str]) -> list[str]:
    """What no table of this machine shows."""
    trained = f" ({', '.join(versions)})" if versions else ""
    return [
        "the source still has the user; so do copies of it, such as .kuberec/data",
        f"model versions{trained} were trained with the user's events: weights are not changed; "
        "run the pipeline again and remove what it replaces",
        "a transformer that runs remembers what clients asked of it for minutes, in memory alone; "
        "the latest rows of its request log are not written yet: where there is one, run this "
        "again after serving.transformer.request_log.flush_s",
        "not reached from here: a cluster's artifacts and published versions, its pods' logs, "
        "other online stores, backups (docs/data/privacy.md)",
    ]
