"""What the commands print for a person."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipelines.runs import SUCCEEDED, Run, list_runs, shown
from recommender.files import read_json

STATE_STYLE = {"succeeded": "green", "failed": "red", "killed": "yellow", "running": "cyan"}


def show_summary(run: Run, console: Console) -> None:
    """One screen: rows, metrics, compression, parity, examples, endpoint, report."""
    summary = read_json(run.summary)
    data = summary["data"]
    rows = ", ".join(
        f"{row['kept']:,} {row['table']} kept ({row['rejected']:,} rejected)"
        for row in data["tables"]
    )
    checks = summary["validation"]
    console.print()
    console.print(f"[bold]data[/bold]     {rows}", highlight=False)
    console.print(
        f"         {checks['passed']} of {checks['total']} expectations met; {data['notes']}",
        highlight=False,
    )
    console.print(_metrics(summary["evaluation"]["rankers"]))
    console.print(_ledger(summary["compression"]["rows"]))
    for row in summary["parity"]:
        console.print(
            f"[bold]parity[/bold]   {row['from']} → {row['to']}: top-K overlap "
            f"{row['top_k_overlap']:.4f}, largest score difference "
            f"{row['max_abs_score_diff']:.1e} ({row['requests']} requests)",
            highlight=False,
        )
    console.print(Columns([_sample(sample) for sample in summary["samples"]], equal=True))
    serving = summary["serving"]
    console.print(
        f"[bold]serving[/bold]  version {summary['version']} at {serving['url']} "
        "(REST and gRPC), in the background until [bold]kuberec stop[/bold]",
        highlight=False,
    )
    console.print("         kuberec recommend --user 196 -k 10", highlight=False)
    seconds = run.record().get("seconds")
    took = f", run took {seconds:.0f} s" if seconds else ""
    console.print(f"[bold]report[/bold]   {shown(run.report)}{took}", highlight=False)


def _metrics(rankers: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title="test metrics (full ranking, history masked)", title_justify="left")
    names = ["hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr", "coverage@10"]
    table.add_column("ranker")
    for name in names:
        table.add_column(name.upper() if name[0] != "c" else name, justify="right")
    for index, (ranker, metrics) in enumerate(rankers.items()):
        values = [f"{metrics[name]:.4f}" for name in names]
        table.add_row(ranker, *values, style="bold" if not index else None)
    return table


def _ledger(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="compression (ranker graph, ONNX Runtime, CPU)", title_justify="left")
    table.add_column("step")
    for name in ("NDCG@10", "HR@10", "parameters", "bytes", "p50 ms, batch 1"):
        table.add_column(name, justify="right")
    for index, row in enumerate(rows):
        table.add_row(
            row["step"],
            f"{row['ndcg@10']:.4f}",
            f"{row['hr@10']:.4f}",
            f"{row['parameters']:,}",
            f"{row['bytes']:,}",
            f"{row['p50_ms']:.2f}",
            style="bold" if index == len(rows) - 1 else None,
        )
    return table


def _sample(sample: Mapping[str, Any]) -> Panel:
    lines = Text()
    lines.append(f"last of {len(sample['history'])} seen\n", style="dim")
    for item in sample["history"][-3:]:
        lines.append(f"   {item['title']}\n", style="dim")
    lines.append("recommended\n")
    for place, item in enumerate(sample["recommendations"], 1):
        lines.append(f"{place:>2} {item['title']}\n")
    lines.rstrip()
    return Panel(lines, title=f"user {sample['user']}", title_align="left")


def show_runs(root: Path, console: Console) -> None:
    """A table of the runs, newest first."""
    table = Table()
    for name in ("run", "state", "took", "NDCG@10", "version", "report"):
        table.add_column(name, overflow="fold")
    for run in list_runs(root):
        record = run.record()
        status = record["status"]
        seconds = record.get("seconds")
        cells = ["", "", ""]
        if status == SUCCEEDED and run.summary.is_file():
            summary = read_json(run.summary)
            cells = [
                f"{summary['headline']['ndcg@10']:.4f}",
                summary["version"],
                shown(run.report),
            ]
        table.add_row(
            run.id,
            Text(status, STATE_STYLE.get(status, "")),
            f"{seconds:.0f} s" if seconds else "",
            *cells,
        )
    if not table.row_count:
        console.print(f"no runs in '{root}' yet: kuberec run pipelines/configs/movielens-100k.yaml")
        return
    console.print(table)


def show_recommendations(answer: Mapping[str, Any], console: Console, *, as_json: bool) -> None:
    """The items of one answer, by title where the feature store knows one."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
        return
    known = len(answer["history"])
    who = f"user {answer['user']}" if answer["user"] else "the given history"
    if known:
        latest = "; ".join(item["title"] for item in answer["history"][-3:])
        console.print(f"{who}: {known} items seen, latest: {latest}", style="dim", highlight=False)
    else:
        console.print(f"{who} has no history: popular items", style="dim", highlight=False)
    table = Table()
    table.add_column("", justify="right")
    table.add_column("item")
    table.add_column("title")
    table.add_column("score", justify="right")
    for place, item in enumerate(answer["recommendations"], 1):
        table.add_row(str(place), item["item_id"], item["title"], f"{item['score']:.3f}")
    console.print(table)
