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

    from tqdm import tqdm

    bar: list[tqdm] = []

    def draw(done: int, total: int, message: str) -> None:
        if not bar:
            bar.append(tqdm(total=total or None, desc=label))
        bar[0].set_postfix_str(message, refresh=False)
        bar[0].update(done - bar[0].n)
        if total and done >= total:
            bar[0].close()

    return draw
