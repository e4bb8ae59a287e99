"""What the commands print for a person."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.runs import SUCCEEDED, Run, list_runs, shown
from recommender.files import read_json
from reporting.ledger import LOSES, mark

SHOWN_ITEMS = 5
STATE_STYLE = {"succeeded": "green", "failed": "red", "killed": "yellow", "running": "cyan"}


def command() -> str:
    """How this program is called from here: `make run` leaves it off the PATH."""
    return "kuberec" if shutil.which("kuberec") else shown(Path(sys.argv[0]))


def show_summary(run: Run, console: Console) -> None:
    """One screen: rows, metrics, compression, parity, examples, endpoint, rollout, report."""
    summary = read_json(run.summary)
    data, checks = summary["data"], summary["validation"]

    def say(label: str, text: str) -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=8, style="bold")
        grid.add_column()
        grid.add_row(label, Text(text))
        console.print(grid)

    console.print()
    rows = (
        f"{row['kept']:,} {row['table']} kept, {row['rejected']:,} rejected"
        for row in data["tables"]
    )
    say("data", "; ".join(rows))
    say("", f"{checks['passed']} of {checks['total']} expectations met")
    say("", data["notes"])
    console.print(_metrics(summary["evaluation"]["rankers"]))
    show_ledger(summary["compression"]["rows"], console)
    for index, row in enumerate(summary["parity"]):
        steps = f"{row['from']} → {row['to']}"
        say(
            "" if index else "parity",
            f"{steps:<37} overlap {row['top_k_overlap']:.3f}, "
            f"score off by {row['max_abs_score_diff']:.0e}",
        )
    console.print()
    for sample in summary["samples"]:
        seen = [item["title"] for item in sample["history"]]
        say(f"user {sample['user']}", f"{len(seen)} seen, latest: {'; '.join(seen[-3:])}")
        best = (item["title"] for item in sample["recommendations"][:SHOWN_ITEMS])
        say("", f"recommended: {'; '.join(best)}")
    console.print()
    seconds = run.record()["seconds"]
    say("serving", f"version {summary['version']} at {summary['serving']['url']}, REST and gRPC")
    say("", f"in the background until `{command()} stop`; ask it with:")
    user = summary["samples"][0]["user"] if summary["samples"] else "1"
    say("", f"{command()} recommend --user {user} -k 10")
    say("rollout", f"{summary['rollout']['headline']} ({shown(run.rollout)})")
    say("report", f"{shown(run.report)} (the run took {seconds:.0f} s)")


def _metrics(rankers: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        title="test: full ranking, history masked",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0),
    )
    names = ["hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr", "coverage@10"]
    table.add_column("ranker")
    for name in names:
        table.add_column(name.upper().replace("COVERAGE", "COV"), justify="right")
    for index, metrics in enumerate(rankers):
        values = [f"{metrics[name]:.4f}" for name in names]
        table.add_row(metrics["ranker"], *values, style=None if index else "bold")
    return table


def show_ledger(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A line a step of the compression; the pages have all figures, and the slices."""
    table = Table(
        title="compression: the ranker as it would serve, CPU, one thread",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 0),
    )
    table.add_column("step", overflow="fold")
    names = ("NDCG@10", "change", "REC@10", "kB", "smaller", "p50\nms", "p99\nms", "faster")
    for name in (*names, "RAM\nMB", "took"):
        table.add_column(name, justify="right")
    lost = [bool(row["to_full"]) and mark(row["to_full"]["interval"]) == LOSES for row in rows]
    for index, row in enumerate(rows):
        beyond = "*" if lost[index] else " " if any(lost) else ""
        table.add_row(
            row["step"],
            f"{row['ndcg@10']:.4f}",
            f"{row['to_full']['difference']:+.4f}{beyond}" if row["to_full"] else "",
            f"{row['recall@10']:.4f}",
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['times_smaller']:.1f}x",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['times_faster']:.1f}x",
            "" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.0f}",
            f"{row['seconds']:.0f} s",
            style="bold" if index == len(rows) - 1 else None,
        )
    console.print(table)
    if any(lost):
        said = " * worse than the full model beyond chance: the 95 % interval lies below 0"
        console.print(said, highlight=False)


def show_runs(root: Path, console: Console) -> None:
    """A table of the runs, newest first."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("run", "state", "took", "NDCG@10", "version"):
        table.add_column(name, overflow="fold")
    for run in list_runs(root):
        record = run.record()
        status = record["status"]
        seconds = record.get("seconds")
        cells = ["", ""]
        if status == SUCCEEDED and run.summary.is_file():
            summary = read_json(run.summary)
            cells = [f"{summary['headline']['ndcg@10']:.4f}", summary["version"]]
        table.add_row(
            Text(run.id),
            Text(status, STATE_STYLE.get(status, "")),
            f"{seconds:.0f} s" if seconds else "",
            *cells,
        )
    if not table.row_count:
        start = f"{command()} run pipelines/configs/movielens-100k.yaml"
        console.print(f"no runs in '{root}' yet: {start}", highlight=False, markup=False)
        return
    console.print(table)
    console.print(f"reports: {shown(root)}/<run>/report.html", highlight=False, markup=False)


def feature_warning(status: str | None, age_s: float | None) -> str:
    """What a person should know of the features that an answer was made from; "" for nothing."""
    age = "" if age_s is None else f" ({age_s / 86_400:,.1f} days old)"
    return {
        "stale": f"the stored history is older than the endpoint's limit{age}",
        "fallback_stale": f"the stored history was too old to be used{age}: popular items",
        "fallback_timeout": "the feature store did not answer in time: popular items",
        "fallback_error": "the feature store failed: popular items",
        "fallback_unavailable": "the endpoint has no feature store to read: popular items",
    }.get(status or "", "")


def show_recommendations(answer: Mapping[str, Any], console: Console, *, as_json: bool) -> None:
    """The items of one answer, by title where the feature store knows one."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return

    def say(text: str) -> None:
        console.print(text, style="dim", highlight=False, markup=False)

    known = len(answer["history"] or ())
    who = f"user {answer['user']}" if answer["user"] else "the given history"
    if known:
        latest = "; ".join(item["title"] for item in answer["history"][-3:])
        say(f"{who}: {known} items seen, latest: {latest}")
    else:
        say(f"{who} has no history: popular items")
    warning = feature_warning(answer["feature_status"], answer["feature_age_s"])
    if warning:
        console.print(warning, style="yellow", highlight=False, markup=False)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("item")
    table.add_column("title")
    table.add_column("score", justify="right")
    for place, item in enumerate(answer["recommendations"], 1):
        table.add_row(
            str(place), Text(item["item_id"]), Text(item["title"]), f"{item['score']:.3f}"
        )
    console.print(table)
