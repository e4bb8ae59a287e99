"""Events that were refused, kept: one JSON object a line, readable by its owner alone."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recommender.errors import KuberecError
from recommender.files import ensure_writable


class Reject(NamedTuple):
    reason: str
    place: str  # "events.jsonl:12", "clicks[0]@4711"
    content: Mapping[str, Any] | str | None  # the event, or its line; None: must not be kept


class Rejects:
    """A file that rejects are added to.

    Who reads events again, having been killed, may add the same reject again: with the same place.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def add(self, rejects: Iterable[Reject]) -> None:
        """Write them, and have them on the disk.

        Raises:
            KuberecError: the file cannot be written.
        """
        lines = [
            json.dumps({"reason": reason, "place": place, "event": content}, ensure_ascii=False)
            for reason, place, content in rejects
        ]
        if not lines:
            return
        text = "".join(f"{line}\n" for line in lines).encode("utf-8", errors="backslashreplace")
        try:
            ensure_writable(self.path.parent)
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _write(file, text)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise KuberecError(
                f"rejected events cannot be written to '{self.path}' ({error.strerror}): make room "
                "there, or name another file by --rejects; then run this again"
            ) from error


def _write(file: int, text: bytes) -> None:
    while text:  # a disk that is nearly full takes a part
        text = text[os.write(file, text) :]
