"""Events of a file, or of a pipe, into the online store; once."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from feature_repo.live.events import MAX_LINE
from feature_repo.live.intake import Intake, Line
from feature_repo.live.outcomes import Tally
from feature_repo.stores.base import StoreDown
from recommender.errors import KuberecError

_BATCH = 2000  # lines
STDIN = Path("-")


def push_lines(
    intake: Intake,
    lines: Iterable[Line],
    tell: Callable[[int], None] = lambda size: None,
) -> Tally:
    """What became of all of them.

    Args:
        tell: is told how many more bytes were taken.

    Raises:
        StoreDown: saying how many lines were taken before.
        KuberecError: as of `Intake.take`.
    """
    total = Tally()
    taken = 0
    for batch in _batches(lines):
        try:
            total.update(intake.take(batch))
        except StoreDown as error:
            raise StoreDown(
                f"{error}. {taken:,} lines were taken before; to push those again does no harm"
            ) from error
        taken += len(batch)
        tell(sum(len(line.text) + 1 for line in batch))
    return total


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    rest = iter(lines)
    while batch := list(itertools.islice(rest, _BATCH)):
        yield batch


def read_lines(path: Path) -> Iterator[Line]:
    """Of a file, or of standard input for "-".

    Raises:
        KuberecError: the file cannot be read.
    """
    if path == STDIN:
        yield from _lines(sys.stdin.buffer, "stdin")
        return
    try:
        with path.open("rb") as file:
            yield from _lines(file, path.name)
    except OSError as error:
        raise KuberecError(
            f"'{path}' cannot be read ({error.strerror}): name a file of one JSON object a line, "
            "or - for standard input"
        ) from error


def _lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    for number in itertools.count(1):
        text = stream.readline(MAX_LINE + 1)
        if not text:
            return
        end = text
        while len(end) > MAX_LINE and not end.endswith(b"\n"):  # refused for its length
            end = stream.readline(MAX_LINE + 1)
        yield Line(text if len(text) > MAX_LINE else text.rstrip(b"\r\n"), f"{name}:{number}")


def size_of(path: Path) -> int | None:
    """Bytes; None where that is not known beforehand."""
    try:
        return None if path == STDIN else path.stat().st_size
    except OSError:
        return None
