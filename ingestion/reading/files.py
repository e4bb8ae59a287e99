"""Which files a table's `path` means, and how they are opened.

    path: data/events.csv                       one file
    path: data/events                           a folder: all files of the format below it
    path: data/events-*.jsonl.gz                a glob; ** crosses folders
    path: [data/2023.csv, data/2024/*.csv]      in this order, each sorted by name, none twice
    path: s3://bucket/events/*.parquet          whatever fsspec has a package for

A file's fingerprint is the sha256 of its content; of a remote file, of its URL, size and ETag
(without one, of the time it was written), which is what there is without reading it.
"""

import gzip
import importlib.metadata
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from ingestion.errors import IngestError
from ingestion.reading.stores import filesystem, list_store
from ingestion.reading.table import TableSource, is_url, paths_of
from recommender.files import fingerprint, sha256_file

FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]
_COMPRESSED = ("", ".gz", ".zst")
_ENDINGS: dict[str, tuple[str, ...]] = {
    "csv": tuple(f"{end}{packed}" for end in (".csv", ".txt", ".dat") for packed in _COMPRESSED),
    "tsv": tuple(
        f"{end}{packed}" for end in (".tsv", ".tab", ".txt", ".dat") for packed in _COMPRESSED
    ),
    "jsonl": tuple(
        f"{end}{packed}" for end in (".jsonl", ".ndjson", ".json") for packed in _COMPRESSED
    ),
    "parquet": (".parquet", ".pq"),
}


@dataclass(frozen=True)
class SourceFile:
    """One file of a table.

    Attributes:
        name: as messages and rejects show it.
        path: what the engine opens, a local path or a URL.
        format: of its content.
        fingerprint: changes when its content does.
    """

    name: str
    path: str
    format: FileFormat
    fingerprint: str

    @property
    def remote(self) -> bool:
        return is_url(self.path)


def find_files(table: str, source: TableSource) -> list[SourceFile]:
    """The files of a table of csv, tsv, jsonl or parquet.

    Raises:
        IngestError: naming what is not there or cannot be reached.
    """
    found: dict[str, SourceFile] = {}
    for given in paths_of(source.path):
        path = given.removeprefix("file://")
        several = _remote if is_url(path) else _local
        for file in several(table, source, path):
            found.setdefault(file.path, file)
    return list(found.values())


def files_fingerprint(files: dict[str, list[SourceFile]]) -> str:
    """sha256 over every file of every table."""
    return fingerprint(
        {table: [file.fingerprint for file in several] for table, several in files.items()}
    )


@contextmanager
def open_file(file: SourceFile, source: TableSource) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed.

    Raises:
        OSError: it cannot be opened; reading it may raise that too, or EOFError.
    """
    packed = compression(file.path, source)
    with ExitStack() as stack:
        stream: Any
        if file.remote:
            files = filesystem(file.path, source.storage_options)
            stream = stack.enter_context(files.open(file.path, "rb"))
        else:
            stream = stack.enter_context(Path(file.path).open("rb"))
        if packed == "gzip":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif packed == "zstd":
            import pyarrow as pa

            stream = io.BufferedReader(pa.CompressedInputStream(stream, "zstd"))
            stack.enter_context(stream)
        yield stream


def compression(path: str, source: TableSource) -> Literal["none", "gzip", "zstd"]:
    """How a file is compressed, by the config or by its name."""
    if source.compression != "auto":
        return source.compression
    return "gzip" if path.endswith(".gz") else "zstd" if path.endswith(".zst") else "none"


def _local(table: str, source: TableSource, path: str) -> list[SourceFile]:
    pattern = _in_package(table, source, path) if source.package else Path(path).expanduser()
    pattern = pattern.absolute()
    if pattern.is_file():
        files = [pattern]
    elif pattern.is_dir():
        files = sorted(file for file in pattern.rglob("*") if file.is_file())
        names = [file.relative_to(pattern).as_posix() for file in files]
        wanted = _of_format(table, source, path, names)
        files = [file for file, name in zip(files, names, strict=True) if name in wanted]
    else:
        root = Path(pattern.anchor)
        files = sorted(file for file in root.glob(str(pattern.relative_to(root))) if file.is_file())
    if not files:
        where = f"in package '{source.package}'" if source.package else f"from '{Path.cwd()}'"
        raise IngestError(
            f"{table}: no file matches '{path}' {where}; "
            f"correct source.{table}.path, or put the file there"
        )
    try:
        return [_file(source, str(file), sha256_file(file)) for file in files]
    except OSError as error:
        raise IngestError(f"{table}: cannot read file '{error.filename}': {error.strerror}") from (
            error
        )


def _in_package(table: str, source: TableSource, path: str) -> Path:
    assert source.package is not None
    try:
        distribution = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise IngestError(
            f"{table}: package '{source.package}' is not installed, so its file "
            f"'{path}' cannot be read; install it (`make install` does), or set "
            f"source.{table}.path to a file and drop `package`"
        ) from error
    return Path(str(distribution.locate_file(path)))


def _remote(table: str, source: TableSource, url: str) -> list[SourceFile]:
    def wanted(names: list[str]) -> list[str]:
        return _of_format(table, source, url, names)

    try:
        found = list_store(url, source.storage_options, wanted)
    except IngestError:
        raise
    except Exception as error:  # every store's client has errors of its own
        raise IngestError(
            f"{table}: cannot list '{url}': {type(error).__name__}: {error}; check the address, "
            f"source.{table}.storage_options and the keys in the environment (of S3 "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        ) from error
    if not found:
        raise IngestError(
            f"{table}: no file matches '{url}'; correct source.{table}.path, or put the file there"
        )
    return [_file(source, name, fingerprint([name, *found[name]])) for name in sorted(found)]


def _of_format(table: str, source: TableSource, folder: str, names: list[str]) -> list[str]:
    """The files of a folder that are of the source's format, by their names' endings.

    A part that starts with _ or . is somebody's book-keeping (_SUCCESS, .crc) and left out.
    """
    endings = _ENDINGS[source.format]
    open_names = [
        name
        for name in names
        if not any(part.startswith(("_", ".")) for part in PurePosixPath(name).parts)
    ]
    if found := [name for name in open_names if name.lower().endswith(endings)]:
        return found
    there = ", ".join(open_names[:5]) or "nothing"
    raise IngestError(
        f"{table}: folder '{folder}' has no files that end with {', '.join(endings)}; it has "
        f"{there}{' ...' if len(open_names) > 5 else ''}. Correct source.{table}.path or format, "
        f"or name the files with a pattern such as {folder.rstrip('/')}/*"
    )


def _file(source: TableSource, path: str, content: str) -> SourceFile:
    return SourceFile(path, path, source.format, content)  # type: ignore[arg-type]
