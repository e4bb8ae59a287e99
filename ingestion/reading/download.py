"""Published data sets, fetched into a folder when they are not there yet.

A download goes on where the last one was cut off, if the server can do that and the file is still
the same; it takes its place, by a rename, when it is whole and its checksum is right.
"""

import fcntl
import gzip
import hashlib
import http.client
import lzma
import os
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from typing import IO

from ingestion.errors import IngestError
from ingestion.reading.settings import DownloadConfig, DownloadFile
from ingestion.reading.table import TableSource, is_url, paths_of
from ingestion.sources import SourceConfig
from recommender.files import atomic_file, ensure_writable

Tell = Callable[[str], None]
_TIMEOUT_S = 60  # without a byte
_BLOCK = 1 << 20
_TELL_EVERY_S = 1.0
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
)


def fetch(config: SourceConfig, data: Path, tell: Tell | None = None) -> SourceConfig:
    """The config with the paths of downloaded files whole; what is missing of them is fetched.

    Args:
        data: the folder that has one for each data set.
        tell: told what is being fetched, and how much of it there is.

    Raises:
        IngestError: a file cannot be had, or is not what was published; it says which file to get
            from where and where to put it.
        FolderNotWritable: the data folder.
    """
    if config.download is None:
        return config
    folder = (data / config.slug).absolute()
    if not all(_is_there(folder, file) for file in config.download.files):
        with _alone(ensure_writable(folder)):
            for file in config.download.files:
                if not _is_there(folder, file):
                    _get(folder, file, config, tell or (lambda message: None))
    tables = config.tables()
    return config.model_copy(
        update={table: _placed(source, folder) for table, source in tables.items()}
    )


def _placed(source: TableSource, folder: Path) -> TableSource:
    if source.path is None or source.package is not None:
        return source
    paths = [
        path if is_url(path) else str(folder / Path(path).expanduser())
        for path in paths_of(source.path)
    ]
    return source.model_copy(update={"path": paths[0] if isinstance(source.path, str) else paths})


def _is_there(folder: Path, file: DownloadFile) -> bool:
    return all((folder / name).is_file() for name in file.members or [file.filename])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs would write into the same unfinished file; the second one waits."""
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _get(folder: Path, file: DownloadFile, config: SourceConfig, tell: Tell) -> None:
    assert config.download is not None
    by_hand = folder / file.filename
    if by_hand.is_file():  # an archive that somebody put there
        _check(by_hand, file, f"delete '{by_hand}', so that it is downloaded anew")
        _unpack(by_hand, folder, file, tell)
        return
    terms = f"; terms of use: {config.license}" if config.license else ""
    tell(f"download {file.url} (see {config.download.page}{terms})")
    draft = folder / f".{file.filename}.partial"
    try:
        _download(file, draft, tell)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise IngestError(
            f"cannot download {file.url}: {reason}\n{_manual(folder, file, config.download)}"
        ) from error
    try:
        _check(draft, file, "it is deleted; run again, or see what the publisher says")
    except IngestError:
        _forget(draft)
        raise
    if file.members:
        try:
            _unpack(draft, folder, file, tell)
        finally:
            _forget(draft)
    else:
        draft.replace(by_hand)
        _forget(draft)


def _manual(folder: Path, file: DownloadFile, download: DownloadConfig) -> str:
    what = f"'{file.filename}'"
    if file.members:
        what += f", or what is in it ({', '.join(file.members)}),"
    return (
        "If this machine cannot reach it, get it by hand:\n"
        f"  1. open {download.page} on one that can, and read the terms\n"
        f"  2. download {file.url}\n"
        f"  3. put {what} into '{folder}'\n"
        "and run again."
    )


def _download(file: DownloadFile, draft: Path, tell: Tell) -> None:
    """Try as long as every try brings something; a cut connection is no reason to begin anew.

    Raises:
        OSError, HTTPException: the server does not answer, refuses, or stops.
    """
    while True:
        before = draft.stat().st_size if draft.exists() else 0
        try:
            total = _transfer(file, draft, tell)
        except (ConnectionError, TimeoutError, http.client.IncompleteRead):
            if draft.exists() and draft.stat().st_size > before:
                continue
            raise
        size = draft.stat().st_size
        if total is None or size == total:
            return
        if size > total or size <= before:
            raise OSError(f"the server sent {size:,} of {total:,} bytes and stopped")


def _transfer(file: DownloadFile, draft: Path, tell: Tell) -> int | None:
    """One request, from where `draft` ends; the size of the whole, if the server says it."""
    validator = draft.with_suffix(".version")  # the ETag or time of what `draft` is a part of
    start = draft.stat().st_size if draft.exists() and validator.exists() else 0
    request = urllib.request.Request(file.url, headers={"User-Agent": "kuberec"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing is left of it, or it is another file by now
            _forget(draft)
            return _transfer(file, draft, tell)
        raise OSError(f"the server says {error.code} {error.msg}") from error
    with response:
        if response.status != 206:
            _forget(draft)
            start = 0
        version = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if version and not version.startswith("W/"):
            validator.write_text(version)
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with draft.open("ab" if start else "wb") as stream:
            _copy(response, stream, start, total, lambda text: tell(f"{file.filename}: {text}"))
    return total


def _copy(source: IO[bytes], to: IO[bytes], done: int, total: int | None, tell: Tell) -> None:
    told = time.monotonic()
    while block := source.read(_BLOCK):
        to.write(block)
        done += len(block)
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            of = f" of {total / 1e6:,.1f}" if total else ""
            tell(f"{done / 1e6:,.1f}{of} MB")


def _check(path: Path, file: DownloadFile, then: str) -> None:
    for algorithm in ("sha256", "md5"):
        expected = getattr(file, algorithm)
        if expected is None:
            continue
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if found != expected:
            raise IngestError(
                f"{file.url}: its {algorithm} is {found}, but {expected} was published "
                f"({path.stat().st_size:,} bytes): it is damaged, or another file; {then}"
            )


def _unpack(archive: Path, folder: Path, file: DownloadFile, tell: Tell) -> None:
    """The members of an archive, each in its place when it is whole."""
    tell(f"unpack {file.filename}")
    try:
        if file.filename.endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                _unpack_members(folder, file, packed.namelist(), packed.open)
        else:
            with tarfile.open(archive) as packed_tar:
                names = packed_tar.getnames()
                _unpack_members(folder, file, names, packed_tar.extractfile)
    except _DAMAGED as error:
        raise IngestError(
            f"{file.filename} from {file.url} is no archive that can be unpacked: {error}"
        ) from error


def _unpack_members(
    folder: Path, file: DownloadFile, names: list[str], opened: Callable[[str], IO[bytes] | None]
) -> None:
    if missing := [name for name in file.members if name not in names]:
        raise IngestError(
            f"{file.filename} from {file.url} has no {', '.join(missing)}; it has "
            f"{', '.join(names[:20])}: correct source.download.files.members"
        )
    for name in file.members:
        stream = opened(name)
        if stream is None:
            raise IngestError(f"{file.filename}: '{name}' is a folder; members must be files")
        with stream, atomic_file(folder / name) as draft, draft.open("wb") as to:
            copyfileobj(stream, to, _BLOCK)


def _forget(draft: Path) -> None:
    for path in (draft, draft.with_suffix(".version")):
        if os.path.lexists(path):
            path.unlink()
