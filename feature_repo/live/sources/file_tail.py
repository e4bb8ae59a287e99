"""A file that something appends lines to, followed over rotation, truncation and restarts.

A file that was renamed is read to its end before the one that took its name, also when both
happened while nobody was reading. A file that is shorter than it was read, or begins otherwise, was
emptied and is read from its start; what a writer appended between our last look and that is lost,
so let log rotation rename (logrotate's `create`), not copy and truncate. Who writes on to a renamed
file is read until a second passes without.
"""

import os
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

from feature_repo.live.events import MAX_LINE
from feature_repo.live.intake import Line
from feature_repo.live.sources.base import Unread
from feature_repo.live.sources.file_position import (
    HEAD,
    Position,
    find_file,
    head_of,
    position_of,
    read_position,
    rotated_since,
    write_position,
)
from recommender.errors import KuberecError

_PAUSE_S = 0.02  # between looks at the end of the file
_CHUNK = 256 * 1024
_QUIET_S = 1.0  # of a renamed file, after which nobody is thought to write to it
_SAVE_S = 1.0  # between two saves: what comes again after a kill is no more than this


class FileTail:
    """See feature_repo.live.sources.base.EventSource."""

    def __init__(self, path: Path, state: Path, from_end: bool = False) -> None:
        """Begin where `state` says; where it says nothing, at the file's start, or its end.

        Args:
            path: it may be absent; it is waited for.
            state: JSON file of how far it was read, one a follower.

        Raises:
            KuberecError: the path is a folder or cannot be read; the state is of another path, or
                damaged.
        """
        self._path = Path(path).absolute()
        self._state = Path(state)
        self.name = f"file '{self._path}'"
        if self._path.is_dir():
            raise KuberecError(f"'{self._path}' is a folder: name the file that events come in")
        self._older: deque[BinaryIO] = deque()  # rotated files that come after the open one
        self._read: set[tuple[int, int]] = set()  # rotated files, that one and those included
        self._committed: Position | None = None  # not saved yet
        self._saved_at = 0.0
        self._gap: str | None = None
        self._start_reading(None)
        position = read_position(self._state, self._path)
        if position is not None:
            self._resume(position)
        elif self._open_current() and from_end:
            assert self._file is not None
            self._offset = self._file.seek(0, os.SEEK_END)

    def _resume(self, position: Position) -> None:
        file = find_file(self._path, position)
        if file is None:
            self._gap = (
                f"the file that was read up to byte {position.offset:,} is gone, so what was "
                f"appended to it since is not here; going on with {self.name} from its start"
            )
            self._open_current()
            return
        self._start_reading(file)
        self._offset, self._line = position.offset, position.line
        self._skipping = position.skipping
        file.seek(position.offset)

    def _start_reading(self, file: BinaryIO | None) -> None:
        self._file = file
        self._head = b""  # how the file begins
        self._offset = 0  # bytes that were made lines of
        self._line = 0
        self._part = b""  # behind them, the beginning of a line whose end is still to come
        self._skipping = False  # inside an overlong line
        self._quiet_since: float | None = None  # there is another file of the path's name

    def poll(self, timeout_s: float, most: int) -> list[Line]:
        deadline = time.monotonic() + timeout_s
        while True:
            lines = self._lines(most)
            left = deadline - time.monotonic()
            if lines or left <= 0:
                return lines
            time.sleep(min(_PAUSE_S, left))

    def commit(self) -> None:
        if self._file is None:
            return
        self._committed = position_of(self._file, self._offset, self._line, self._skipping)
        if time.monotonic() - self._saved_at >= _SAVE_S:
            self._save()

    def idle(self) -> None:
        """Nobody takes a file away from its reader."""

    def unread(self) -> Unread | None:
        files = [file for file in (self._file, *self._older) if file]
        size = sum(os.fstat(file.fileno()).st_size for file in files)
        return Unread(max(0, size - self._offset), "bytes")

    def trouble(self) -> str | None:
        return f"there is no {self.name} yet" if self._file is None else self._gap

    def close(self) -> None:
        self._save()
        for file in (self._file, *self._older):
            if file:
                file.close()
        self._file = None

    def _save(self) -> None:
        if self._committed is not None:
            write_position(self._state, self._path, self._committed)
            self._committed = None
            self._saved_at = time.monotonic()

    def _open_current(self) -> bool:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KuberecError(
                f"{self.name} cannot be read ({error.strerror}): make it readable for this user"
            ) from error
        self._start_reading(file)
        return True

    def _lines(self, most: int) -> list[Line]:
        lines: list[Line] = []
        while len(lines) < most:
            if self._was_emptied():
                assert self._file is not None
                self._file.seek(0)
                self._start_reading(self._file)
            chunk = self._file.read(_CHUNK) if self._file else b""
            if chunk:
                self._quiet_since = None
                self._cut(chunk, most, lines)
            elif lines or not self._advance(lines):
                break
        return lines

    def _was_emptied(self) -> bool:
        if self._file is None:
            return False
        if os.fstat(self._file.fileno()).st_size < self._offset + len(self._part):
            return True
        if len(self._head) < HEAD:
            before, self._head = self._head, head_of(self._file, self._offset)
            return not self._head.startswith(before)
        return head_of(self._file, self._offset) != self._head

    def _cut(self, chunk: bytes, most: int, lines: list[Line]) -> None:
        """Whole lines of what was read so far; what is beyond `most` is read again later."""
        assert self._file is not None
        data = self._part + chunk
        start = 0
        while len(lines) < most and (end := data.find(b"\n", start)) >= 0:
            self._line += 1
            if not self._skipping:
                lines.append(Line(data[start:end], f"{self._path.name}:{self._line}"))
            self._skipping = False
            start = end + 1
        self._offset += start
        self._part = data[start:]
        if len(lines) >= most:
            self._file.seek(self._offset)
            self._part = b""
        elif len(self._part) > MAX_LINE:  # refused for its length; the rest is passed over
            if not self._skipping:
                lines.append(Line(self._part, f"{self._path.name}:{self._line + 1}"))
            self._skipping = True
            self._offset += len(self._part)
            self._part = b""

    def _advance(self, lines: list[Line]) -> bool:
        """At the end of the open file: whether there is something to read after all."""
        if self._file is None:
            return self._open_current()
        if self._is_current() is not False:
            return False
        now = time.monotonic()
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < _QUIET_S:
            return False
        if self._part:  # a last line without an end will not get one any more
            lines.append(Line(self._part, f"{self._path.name}:{self._line + 1}"))
            self._offset += len(self._part)
            self._part = b""
            return False
        return self._next_file()

    def _next_file(self) -> bool:
        """The first that was renamed after the open one, which is at its end; else the current."""
        assert self._file is not None
        self._read.add(_identity(self._file))
        later = rotated_since(self._path, self._file, self._read)
        self._read |= {_identity(each) for each in later}
        self._older.extend(later)
        self._file.close()
        if self._older:
            self._start_reading(self._older.popleft())
            return True
        self._read.clear()
        self._start_reading(None)
        return self._open_current()

    def _is_current(self) -> bool | None:
        """Whether the open file has the path's name; None where no file has it."""
        assert self._file is not None
        try:
            current = self._path.stat()
        except OSError:  # renamed, and the new one is still to come
            return None
        return (current.st_dev, current.st_ino) == _identity(self._file)


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino
