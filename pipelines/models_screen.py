"""What `kuberec models` prints for a person."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.screen import command
from tracking.compare import NONE
from tracking.lineage import Lineage
from tracking.registry import Registered


def show_list(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table of versions, newest first; models apart where there are several."""
    if not rows:
        say(console, f"no versions are registered yet: {command()} run CONFIG.yaml")
        return
    several = len({row["model"] for row in rows}) > 1
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ["", "version", "aliases", "test NDCG@10 (95 %)", "data", "registered", "serves here"]
    for name in [*(["model"] if several else []), *names]:
        table.add_column(name, overflow="fold")
    for row in rows:
        data = str(row["data_fingerprint"])[:12]
        serves = ", ".join("yes" if name == row["version"] else name for name in row["serves_as"])
        cells = [
            *([str(row["model"])] if several else []),
            str(row["registered"]),
            str(row["version"]),
            ", ".join(row["aliases"]),
            quality(row["ndcg@10"], row["interval"]),
            data,
            f"{datetime.fromisoformat(row['created']):%Y-%m-%d %H:%M}",
            serves,
        ]
        style = "bold" if "champion" in row["aliases"] else None
        table.add_row(*(Text(cell) for cell in cells), style=style)
    console.print(table)
    say(console, f"the way back to the data: {command()} models show VERSION")


def show_comparison(found: Mapping[str, Any], console: Console) -> None:
    """Sections of two columns; settings that are the same are left out."""
    heads = [f"{each['registered']} ({each['version']})" for each in found["versions"]]
    for title, rows, label in (
        ("made of", found["data"], "of"),
        ("settings that differ", found["settings"], "key"),
        ("test", found["metrics"], "metric"),
        ("test NDCG@10 by slice", found["slices"], "slice"),
        ("the training's end", found["curves"], "of"),
    ):
        if not rows:
            note = "the same" if title in ("made of", "settings that differ") else "not measured"
            say(console, f"{title}: {note}")
            continue
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for name in ("", *heads):
            table.add_column(name, overflow="fold")
        numeric = title.startswith("test")
        if numeric:
            table.add_column("difference", justify="right")
        for row in rows:
            one, other = row["values"]
            name = f"{row['by']}: {row['slice']}" if label == "slice" else str(row[label])
            cells = [name, value(one), value(other)]
            table.add_row(*cells, *([difference(one, other)] if numeric else []))
        console.print(table)


def show_promotion(
    found: Registered, alias: str, before: str | None, serves: bool, console: Console
) -> None:
    """What was changed, and what is to be run for what was not."""
    was = f" (it was version {before})" if before else ""
    say(console, f"version {found.number} ({found.version}) of '{found.model}' is {alias} now{was}")
    if serves:
        say(console, "it serves on this machine")
        return
    say(console, "what serves is as it was; to roll this version out:")
    where = found.tags.get("where", "")
    config = next(
        (each / "config.yaml" for each in Path(where).parents if (each / "config.yaml").is_file()),
        None,
    )
    if "://" in where:
        say(console, f"  {command()} deploy CONFIG.yaml --version-dir FOLDER  (a copy of {where})")
    else:
        say(
            console,
            f"  {command()} run {config or 'CONFIG.yaml'}  (from the cache, on this machine)",
        )
        say(console, f"  {command()} deploy CONFIG.yaml --version-dir {where}  (on a cluster)")


def show_lineage(found: Lineage, console: Console) -> None:
    """From the version down to the rows that were read."""
    version, run, data = found.version, found.run, found.snapshot
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")

    def row(label: str, text: str) -> None:
        grid.add_row(label, Text(text))

    aliases = f", {', '.join(version.aliases)}" if version.aliases else ""
    row("version", f"{version.version}, number {version.number} of '{version.model}'{aliases}")
    row("", f"registered {version.created:%Y-%m-%d %H:%M} UTC; {version.tags.get('where', '')}")
    row("training", f"run {run['id']}")
    if "started_ms" in run:
        started = datetime.fromtimestamp(run["started_ms"] / 1000, UTC)
        dirty = " with uncommitted changes" if run["git.dirty"] == "true" else ""
        row("", f"{run['name']}, {run['status'].lower()}, started {started:%Y-%m-%d %H:%M} UTC")
        row("code", f"{run['git.sha']}{dirty}")
    for name, digest in found.fingerprints.items():
        row(f"{name}", f"sha256 {digest}")
    for section in ("model", "training"):
        if found.config.get(section):
            pairs = (f"{key} {setting}" for key, setting in sorted(found.config[section].items()))
            row(section, ", ".join(pairs))
    if data:
        for table, path in data["tables"].items():
            row(table, f"{path}: {counts(data, table)}")
        for table in sorted(data["kept"].keys() - data["tables"].keys()):
            row(table, counts(data, table))
        row("files", f"sha256 {data['files']}")
        if data["download"]:
            row("download", data["download"])
    console.print(grid)
    for lost in found.lost:
        console.print(f"lost: {lost}", style="yellow", highlight=False, markup=False)


def counts(data: Mapping[str, Any], table: str) -> str:
    parts = [
        f"{data[how][table]:,} {how}"
        for how in ("read", "kept", "rejected")
        if table in data.get(how, {})
    ]
    return ", ".join(parts)


def quality(ndcg: float | None, edges: Sequence[float] | None) -> str:
    if ndcg is None:
        return NONE
    return f"{ndcg:.4f}" + (f" ({edges[0]:.4f} to {edges[1]:.4f})" if edges else "")


def value(found: Any) -> str:
    """A cell: figures to four places, what is missing as a dash."""
    if found is None:
        return NONE
    if isinstance(found, float):
        return f"{found:.4f}"
    if isinstance(found, list) and found and all(isinstance(each, float) for each in found):
        return " to ".join(f"{each:.4f}" for each in found)
    return str(found)


def difference(one: Any, other: Any) -> str:
    """Of the second over the first."""
    if not all(isinstance(each, int | float) for each in (one, other)):
        return ""
    return f"{other - one:+.4f}"


def say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
