"""How far a followed file was read, as a small JSON file; and that file under its new names."""

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from recommender.errors import KuberecError
from recommender.files import fingerprint, read_json, write_json

HEAD = 1024  # bytes that tell a file from another with its inode


class Position(NamedTuple):
    device: int
    inode: int
    head: str  # hash of the first bytes, HEAD or as many as were read
    offset: int  # bytes that were read
    line: int  # lines that were read
    skipping: bool  # the offset is inside a line that is passed over


def head_of(file: BinaryIO, offset: int) -> bytes:
    """The file's first bytes, as far as it was read; where it is read on from is untouched."""
    return os.pread(file.fileno(), min(HEAD, offset), 0)


def position_of(file: BinaryIO, offset: int, line: int, skipping: bool) -> Position:
    status = os.fstat(file.fileno())
    head = fingerprint(head_of(file, offset).hex())
    return Position(status.st_dev, status.st_ino, head, offset, line, skipping)


def write_position(state: Path, path: Path, position: Position) -> None:
    write_json(state, {"path": str(path), **position._asdict()})


def read_position(state: Path, path: Path) -> Position | None:
    """What `state` says of the file `path`; None where there is no such state.

    Raises:
        KuberecError: it is of another path, or damaged.
    """
    if not state.is_file():
        return None
    try:
        said = read_json(state)
        of = said.pop("path")
        position = Position(**said)
        for name, kind in Position.__annotations__.items():
            if type(said[name]) is not kind:
                raise ValueError(f"{name} is no {kind.__name__}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KuberecError(
            f"'{state}' does not say how far '{path}' was read ({error}): delete it to read the "
            "file from its start, which changes no history that has its events"
        ) from error
    if of != str(path):
        raise KuberecError(
            f"'{state}' says how far '{of}' was read, not '{path}': name another one by --state, "
            "or delete it"
        )
    return position


def find_file(path: Path, position: Position) -> BinaryIO | None:
    """The file that the position is in, opened, under whatever name it has now."""
    for each in (path, *_rotated(path)):
        try:
            file = each.open("rb")
        except OSError:
            continue
        if position_of(file, position.offset, position.line, position.skipping) == position and (
            os.fstat(file.fileno()).st_size >= position.offset
        ):
            return file
        file.close()
    return None


def rotated_since(path: Path, file: BinaryIO, but: set[tuple[int, int]]) -> list[BinaryIO]:
    """Rotated files that were renamed or written to after `file`, oldest first, opened.

    Files of one moment count as later: to read one again does no harm.

    Args:
        but: files by device and inode, which are left out.
    """
    as_of = _when(os.fstat(file.fileno()))
    newer = []
    for each in _rotated(path):
        found = each.stat()
        if (found.st_dev, found.st_ino) not in but and _when(found) >= as_of:
            newer.append((_when(found), each))
    return [each.open("rb") for _, each in sorted(newer)]


def _when(status: os.stat_result) -> tuple[int, int]:
    """Of the rename; several at once are told apart by what was written last."""
    return status.st_ctime_ns, status.st_mtime_ns


def _rotated(path: Path) -> list[Path]:
    """Files that may once have had the path's name: events.jsonl.1, events.jsonl-20261127."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:
        return []
    return [
        each
        for each in beside
        if each.name.startswith((f"{path.name}.", f"{path.name}-"))
        and each.suffix not in (".gz", ".zst", ".bz2", ".xz")
        and each.is_file()
    ]
