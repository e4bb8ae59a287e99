"""How long work tells how far it is: `progress(done, total, message)`, total 0 when unknown."""

import sys
from collections.abc import Callable

Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, message: str) -> None:
    """For callers that do not want to know."""


def console(label: str) -> Progress:
    """A bar on a terminal, one line a call elsewhere (logs, pods)."""
    if not sys.stderr.isatty():

        def line(done: int, total: int, message: str) -> None:
            print(f"{label} {done}/{total} {message}", file=sys.stderr, flush=True)

        return line

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Bar(*columns, TextColumn("{task.description}"), console=Console(stderr=True))
    task = bar.add_task("")

    def draw(done: int, total: int, message: str) -> None:
        bar.start()
        bar.update(task, completed=done, total=total or None, description=message)
        if total and done >= total:
            bar.stop()

    return draw
