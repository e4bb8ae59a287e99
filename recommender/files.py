"""Artifacts on disk: written whole or not at all, and named by their content."""

import glob
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recommender.errors import FolderNotWritable


def ensure_writable(directory: Path) -> Path:
    """Create `directory` if need be and return it.

    Raises:
        FolderNotWritable: naming the folder and the way out, if nothing can be written there.
    """
    probe = directory / f".write-probe-{uuid.uuid4().hex}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FolderNotWritable(
            f"cannot write to folder '{directory}' ({error.strerror}): "
            "choose another one or make it writable for this user"
        ) from error
    return directory


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that replaces it when the block ends without an error.

    After an error or a kill `target` is as it was. An existing `target` is replaced whole, by two
    renames; after a kill between them the next writer puts the old one back.
    """
    target = Path(target)
    ensure_writable(target.parent)
    draft = _draft(target)
    draft.mkdir()
    try:
        yield draft
        if target.is_dir():  # rename(2) replaces only an empty folder
            old = draft.with_suffix(".old")
            target.rename(old)
            try:
                draft.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)
            draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _draft(target: Path) -> Path:
    """A new name beside `target`; what killed processes of this machine left is put right."""
    stem = f".{target.name}.{socket.gethostname()}-"
    for left in target.parent.glob(f"{glob.escape(stem)}*"):
        pid = left.name.removeprefix(stem).split(".")[0]
        if pid.isdigit() and not process_exists(int(pid)):
            if left.suffix == ".old" and not target.exists():
                left.rename(target)
            elif left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return target.parent / f"{stem}{os.getpid()}.{uuid.uuid4().hex[:8]}.partial"


def process_exists(pid: int) -> bool:
    """Whether a process of this machine has the number `pid`, whoever owns it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` that is renamed onto it when the block ends without an error."""
    target = Path(target)
    ensure_writable(target.parent)
    draft = _draft(target)
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_json(target: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(target) as draft:
        draft.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_tree(directory: Path) -> dict[str, str]:
    """sha256 of every file below `directory`, by relative POSIX path, sorted."""
    files = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): sha256_file(path) for path in files}


def content_fingerprint(path: Path) -> str:
    """sha256 of a file, or of a folder's files and their names."""
    return fingerprint(sha256_tree(path)) if Path(path).is_dir() else sha256_file(path)


def fingerprint(content: Any) -> str:
    """sha256 of the canonical JSON of `content`: key order does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
