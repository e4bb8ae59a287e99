"""What a search says: a line a trial, and at the end the best of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.runs import shown
from tuning.results import Row, best_rows, best_yaml
from tuning.search import Told

_ENDS = {
    "spent": "",
    "timeout": "the time is over; ",
    "interrupted": "interrupted; ",
}


def told_line(told: Told, best: FrozenTrial | None, spent: int, trials: int) -> str:
    """`trial 12 (12 of 40)  complete 0.1834  best 0.1912 (trial 7)  41 s  model.dim=128 …`."""
    score = "" if told.value is None else f" {told.value:.4f}"
    running = "" if best is None else f"  best {best.value:.4f} (trial {best.number})"
    why = f": {told.reason}" if told.reason else ""
    return (
        f"trial {told.number} ({spent} of {trials})  {told.state}{score}{why}{running}  "
        f"{told.epochs} epochs, {told.seconds:.0f} s  {_values(told.values)}"
    )


def show_results(
    console: Console, found: Sequence[Row], importance: Mapping[str, float], page: Path, ended: str
) -> None:
    """Table of the best trials, importances, the best values as YAML, where the page lies."""
    best = best_rows(found, 5)
    counts = {state: sum(row.state == state for row in found) for state in _order(found)}
    if best:
        table = Table(title="best trials by validation NDCG@10", title_justify="left")
        for name in ("trial", "NDCG@10", "epochs", "seconds", *best[0].values):
            table.add_column(name, justify="right", overflow="fold")
        for row in best:
            numbers = (f"{row.value:.4f}", str(row.epochs), f"{row.seconds or 0:.0f}")
            table.add_row(str(row.number), *numbers, *(_shown(v) for v in row.values.values()))
        console.print(table)
        if importance:
            shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in importance.items())
            console.print(Text(f"importance (fANOVA): {shares}"), soft_wrap=True)
        console.print(Text(f"\nbest values, for the run's YAML:\n{best_yaml(best[0].values)}"))
    else:
        console.print("no trial trained to its end")
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    console.print(
        Text(
            f"{_ENDS[ended]}{told or 'no trials'}; pictures and all trials: {shown(page)}"
            + ("" if ended == "spent" else "\nthe same command goes on from here")
        ),
        soft_wrap=True,
    )


def _order(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.state for row in found))


def _values(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_shown(value)}" for key, value in values.items())


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
