"""What of a request log goes, and when: days that are over, and the oldest ones of too many bytes.

Several replicas may look after one folder: what another has deleted meanwhile is gone, no error.
"""

import contextlib
import time
from datetime import date, timedelta
from pathlib import Path

from feature_repo.replay.log_files import log_files

_DRAFT_S = 3600.0  # a file takes seconds to be written: what is older was left by a killed process


def sweep(folder: Path, keep_days: int, max_bytes: int, today: date) -> int:
    """Delete what is too old or too much; how many files.

    Args:
        keep_days: days before `today` that are kept.
        max_bytes: of all versions and replicas together.
    """
    files = log_files(folder)
    sizes = {file.path: _size(file.path) for file in files}
    left, gone = sum(sizes.values()), 0
    for file in files:  # oldest first
        if file.day >= today - timedelta(days=keep_days) and left <= max_bytes:
            break
        file.path.unlink(missing_ok=True)
        left, gone = left - sizes[file.path], gone + 1
    _tidy(folder)
    return gone


def _tidy(folder: Path) -> None:
    """Drafts of processes that were killed, and folders in which nothing is left."""
    for draft in folder.glob("version=*/date=*/.*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_S:
                draft.unlink()
    for pattern in ("version=*/date=*", "version=*"):
        for place in folder.glob(pattern):
            with contextlib.suppress(OSError):  # not empty, as most are
                place.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
