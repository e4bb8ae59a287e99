"""`kuberec features replay`: do logged requests show the features that training is shown?"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from components.step import state_home
from pipelines.options import RunsFolder, console
from recommender.errors import KuberecError

if TYPE_CHECKING:
    from feature_repo.replay.report import Report

_DAY_S = 86_400.0
_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]
_HOW = "UTC, as 2026-11-27 or 2026-11-27T18:00."
Since = Annotated[
    datetime | None,
    typer.Option(formats=_TIMES, metavar="TIME", help=f"Rows received from then on: {_HOW}"),
]
Until = Annotated[
    datetime | None,
    typer.Option(formats=_TIMES, metavar="TIME", help=f"Rows received before then: {_HOW}"),
]


class SkewFound(KuberecError):
    """More skew than is allowed."""


def replay(
    log: Annotated[
        Path | None,
        typer.Option(help="The request log; by default 'request_log' in the state home."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|FOLDER",
            help="What to compare with: a run by its id, or a folder of windows or offline tables; "
            "by default those of the newest run, else the tables that the store was filled from.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    version: Annotated[str | None, typer.Option(help="Of a model version's answers alone.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The latest so many rows of what is left.")
    ] = None,
    allow_lag_h: Annotated[
        float,
        typer.Option(
            "--allow-lag",
            min=0,
            metavar="HOURS",
            help="What the store lacks for no longer is freshness, not skew.",
        ),
    ] = 48.0,
    max_share: Annotated[
        float, typer.Option(min=0, max=1, help="Exit status 1 unless the skew is below it.")
    ] = 0.001,
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="With the key of the log's pseudonyms.")
    ] = "KUBEREC_LOG_KEY",
    runs: RunsFolder = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as Markdown.")
    ] = None,
) -> None:
    """Recompute logged requests' features as of their time, and count mismatches by cause.

    Transformers log a share of their answers with the history that each came from
    (serving.transformer.request_log.share). Here every row is compared with the history that
    training would be shown at that time: the events of the offline tables up to then. A row has one
    cause, and causes are of four kinds: the same; freshness (behind, by no more than --allow-lag);
    coverage (the offline tables do not tell); skew. Exit status 1: the skew is not below
    --max-share.
    """
    from feature_repo.replay.events import offline_events
    from feature_repo.replay.log_files import FOLDER
    from feature_repo.replay.replay import replay as work
    from feature_repo.replay.report import skew_check
    from recommender.files import atomic_file
    from recommender.pseudonyms import read_key
    from reporting.skew import headline, markdown

    home = state_home()
    key = read_key(key_env, "--key-env")
    offline = _offline(features, runs, home)
    with _bar() as bar:
        task = bar.add_task("")
        found = work(
            log or home / FOLDER,
            offline_events(offline),
            key,
            version=version,
            since=_utc(since),
            until=_utc(until),
            limit=limit,
            allow_lag_s=allow_lag_h * 3600,
            progress=lambda done, total, message: bar.update(
                task, completed=done, total=total, description=message
            ),
        )
    if report is not None:
        with atomic_file(report) as draft:
            draft.write_text(markdown(found, max_share), encoding="utf-8")
    if as_json:
        print(json.dumps(found.as_dict(), ensure_ascii=False, indent=2))
    else:
        _show(found, max_share, offline, console)
    if not skew_check(found, max_share).passed:
        raise SkewFound(
            f"{headline(found, max_share)} docs/features/replay.md says what each cause points to"
        )


def _offline(features: str | None, runs: Path, home: Path) -> Path:
    """The folder of events.parquet, or of windows.

    Raises:
        KuberecError: there is none.
    """
    from feature_repo.offline import EVENTS
    from feature_repo.store import store_folder
    from pipelines.runs import list_runs

    if features is not None:
        named = Path(features)
        folder = named if named.is_dir() else runs / features
        found = _tables_below(folder) if (folder / "run.json").is_file() else folder
        if found is not None and found.is_dir():
            return found
        raise KuberecError(
            f"--features '{features}': neither a folder nor a run in '{runs}' that has built "
            "features; `kuberec runs` lists them"
        )
    for run in list_runs(runs):
        found = _tables_below(run.folder)
        if found is not None:
            return found
    stored = store_folder(home) / "offline"
    if (stored / EVENTS).is_file():
        return stored
    raise KuberecError(
        f"no run in '{runs}' has built features, and '{stored}' has none: name a folder by "
        "--features, or run a pipeline"
    )


def _tables_below(run: Path) -> Path | None:
    from feature_repo.offline import EVENTS

    return next((path.parent for path in sorted(run.glob(f"steps/**/offline/{EVENTS}"))), None)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None else None


def _bar() -> Progress:
    columns = TextColumn("replay"), BarColumn(), TextColumn("{task.description}")
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _show(found: "Report", max_share: float, offline: Path, screen: Console) -> None:
    from feature_repo.replay.causes import MEANING, Kind
    from pipelines.runs import shown
    from reporting.skew import example_text, headline, lag_text

    screen.print(Text(f"log {shown(Path(found.log))}, compared with {shown(offline)}"), style="dim")
    table = Table(box=None, pad_edge=False)
    for name in ("cause", "kind", "rows", "share"):
        table.add_column(name, justify="right" if name in ("rows", "share") else "left")
    table.add_column("what it says", overflow="fold")
    for cause, rows in found.causes.items():
        style = "red" if cause.kind is Kind.SKEW else ""
        share = f"{rows / found.rows:.3%}"
        table.add_row(cause, cause.kind, f"{rows:,}", share, MEANING[cause], style=style)
    screen.print(table)
    if found.lag_s:
        screen.print(lag_text(found), highlight=False)
    for cause, some in found.examples.items():
        for each in some if cause.kind is Kind.SKEW else ():
            moment = f"{each.as_of:%Y-%m-%d %H:%M:%S} UTC"
            line = f"  {cause}: request {each.request_id}, user {each.user_id}, {moment}: "
            screen.print(Text(line + example_text(each)))
    screen.print(headline(found, max_share), highlight=False)
