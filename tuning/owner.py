"""Whether the search that started a trial still lives: a lock that the system drops with it.

Not by a process's number, which the system gives to another one after a while.
"""

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def owner(folder: Path) -> Iterator[str]:
    """Hold a new lock in `folder` (of a local disk); yields its name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.lock"
    draft = path.with_suffix(".new")
    with draft.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        draft.rename(path)  # seen by others only when it is held
        try:
            yield path.name
        finally:
            path.unlink(missing_ok=True)


def lives(folder: Path, name: str) -> bool:
    """Whether the process that held the lock `name` still does; what it left is taken away."""
    path = folder / name
    try:
        with path.open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    path.unlink(missing_ok=True)
    return False


def others(folder: Path, own: str) -> bool:
    """Whether another search of the same study lives."""
    return any(lives(folder, path.name) for path in folder.glob("*.lock") if path.name != own)
