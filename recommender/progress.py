"""How long work tells how far it is: `progress(done, total, message)`, total 0 when unknown."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, message: str) -> None:
    """For callers that do not want to know."""
