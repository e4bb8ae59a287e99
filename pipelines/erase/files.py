"""Every file of a folder: what kind it is, and a user out of it."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.erase.needle import Needle
from pipelines.erase.online import erase_sqlite, holds, is_sqlite
from pipelines.erase.report import Report
from pipelines.erase.tables import erase_table, is_parquet
from pipelines.erase.texts import erase_cells, erase_text
from recommender import schema
from recommender.files import fingerprint, read_json, sha256_file, write_json
from serving.version import GOLDEN, MANIFEST

_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_TEXT_SIZE = 512 * 1024 * 1024  # a larger file is searched, and not rewritten


def erase_folder(
    root: Path, needle: Needle, report: Report, user_columns: Sequence[str], skip: Sequence[Path]
) -> bool:
    """Take a user out of every file below `root`; whether he was in any.

    Args:
        skip: folders that are left out.
    """
    before = len(report.found)
    for folder, names in _folders(root, skip):
        removed = {}
        for name in names:
            try:
                removed[name] = _erase_file(folder / name, needle, report, user_columns)
            except (pa.ArrowException, sqlite3.Error, OSError) as error:
                what = f"cannot be read or written ({str(error).splitlines()[0]})"
                report.left(folder / name, what, "remove it, or put it right and run this again")
        if "snapshot.json" in names and any(removed.values()) and not report.dry:
            _correct_snapshot(folder, removed)
    for found in report.found[before:]:
        for page in _pages_of(Path(found.place), root):
            erase_cells(page, needle, report)
    return len(report.found) > before


def _pages_of(result: Path, root: Path) -> Iterator[Path]:
    """Pages of Data Docs that show a validation result: .../validations/<one path>, both."""
    if result.suffix == ".json" and "validations" in result.parts:
        tail = result.parts[result.parts.index("validations") :]
        yield from root.rglob(str(Path(*tail).with_suffix(".html")))


def _folders(root: Path, skip: Sequence[Path]) -> Iterator[tuple[Path, list[str]]]:
    for place, folders, files in os.walk(root):
        here = Path(place)
        folders[:] = sorted(name for name in folders if here / name not in skip)
        # Regular files: a socket cannot be read, and a pipe waits for somebody to write.
        found = (name for name in files if (here / name).is_file())
        yield here, sorted(name for name in found if not (here / name).is_symlink())


def _erase_file(path: Path, needle: Needle, report: Report, user_columns: Sequence[str]) -> int:
    """Rows removed, of a table."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if path.name.endswith(_BESIDE_SQLITE):
        return 0  # goes with its database
    if is_sqlite(head):
        erase_sqlite(path, needle, report)
    elif is_parquet(head):
        return erase_table(path, needle, report, user_columns)
    elif b"\0" in head or path.stat().st_size > _TEXT_SIZE or _is_sealed(path):
        if holds(path, needle.bytes):
            report.left(path, "the id is in it", "a file that cannot be changed: remove it")
    elif not erase_text(path, path.read_bytes(), needle, report) and holds(path, needle.bytes):
        report.left(path, "the id is in it", "not as a word of its own: look at it, or remove it")
    return 0


def _is_sealed(path: Path) -> bool:
    """Whether a file is of a model version, whose manifest has its sha256."""
    return any((folder / MANIFEST).is_file() for folder in path.parents[:4])


def _correct_snapshot(folder: Path, removed: dict[str, int]) -> None:
    """Counts of snapshot.json: rows kept, rejected, filtered and erased are those read."""
    path = folder / "snapshot.json"
    summary: dict[str, Any] = read_json(path)
    erased = summary.setdefault("erased", {})
    for table in schema.TABLES:
        rows = removed.get(f"{table}.parquet", 0)
        if rows:
            summary["kept"][table] -= rows
            erased[table] = erased.get(table, 0) + rows
    tables = [schema.table_path(folder, table) for table in schema.TABLES]
    hashes = {file.stem: sha256_file(file) for file in tables if file.is_file()}
    summary["fingerprint"] = fingerprint(hashes)
    write_json(path, summary)


def golden_with(root: Path, histories: set[tuple[str, ...]]) -> Iterator[tuple[Path, int]]:
    """Model versions whose golden requests have one of `histories`, and how many of them do."""
    for path in sorted(root.rglob(GOLDEN)):
        if path.is_symlink():
            continue
        requests = read_json(path)
        count = sum(tuple(each.get("history", ())) in histories for each in requests)
        if count:
            yield path.parent, count
