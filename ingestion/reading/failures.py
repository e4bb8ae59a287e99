"""What is said of files that cannot be read, whichever engine reads them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from ingestion.errors import IngestError
from ingestion.reading.files import SourceFile
from ingestion.reading.headers import listed


@contextmanager
def named(
    table: str,
    files: Sequence[SourceFile],
    errors: tuple[type[Exception], ...],
    said: Callable[[Exception], str],
) -> Iterator[None]:
    """Turn what goes wrong while `files` are read into an IngestError that names them.

    Args:
        errors: the engine's own.
        said: what there is to say of one of them.
    """
    try:
        yield
    except errors as error:
        raise IngestError(
            f"{table}: cannot read {called(files)} as {files[0].format}: {said(error)}; "
            f"check source.{table}.format and the file"
        ) from error
    except (OSError, EOFError, UnicodeError) as error:
        raise IngestError(f"{table}: cannot read {called(files)}: {error}") from error


def called(files: Sequence[SourceFile]) -> str:
    """Files of one table as a message names them: engines do not say which one it was."""
    more = f" (or one of {len(files) - 1} more)" if len(files) > 1 else ""
    return f"file '{files[0].name}'{more}"


def no_rows(table: str, file: str, columns: Iterable[str]) -> IngestError:
    """Of a table whose files have a header and nothing else."""
    return IngestError(
        f"{table}: file '{file}' has columns {listed(columns)} but no rows; "
        f"point source.{table}.path at a file with data"
    )
