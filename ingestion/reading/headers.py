"""The columns of a source file: the header of delimited text, and whether they fit the config."""

import csv
import gzip
import io
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ingestion.errors import IngestError
from ingestion.sources import TableSource

# RecBole's files say `user_id:token`: configs name the column without its type.
_TYPED_HEADER = re.compile(r"^(.+):(token|token_seq|float|float_seq)$")
DELIMITERS = {"csv": ",", "tsv": "\t"}
_QUOTES = {"csv": '"', "tsv": ""}


def read_header(path: Path, source: TableSource) -> list[str]:
    """The names in the first line, without RecBole's types."""
    encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding
    with ExitStack() as stack:
        binary: Any = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            binary = stack.enter_context(gzip.GzipFile(fileobj=binary))
        # Undecodable bytes are for the scan to report, with their line.
        lines = io.TextIOWrapper(binary, encoding=encoding, errors="replace", newline="")
        quote = quote_character(source)
        reader = csv.reader(
            lines,
            delimiter=delimiter(source),
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
        names = [name.strip() for name in next(reader, [])]
    typed = [match.group(1) if (match := _TYPED_HEADER.match(name)) else name for name in names]
    return typed if len(set(typed)) == len(typed) else names


def check_columns(table: str, source: TableSource, path: Path, columns: list[str]) -> None:
    """Raise IngestError unless the names are distinct and every mapped one is there."""
    if not any(columns):
        raise IngestError(
            f"{table}: file '{path}' is empty; point source.{table}.path at a file with data"
        )
    seen: dict[str, str] = {}
    for name in columns:
        if not name:
            raise IngestError(
                f"{table}: file '{path}' has a column without a name among {listed(columns)}; "
                "name every column in the header"
            )
        if name.casefold() in seen:
            raise IngestError(
                f"{table}: file '{path}' has columns '{seen[name.casefold()]}' and '{name}', which "
                "differ in nothing or in case only; rename one"
            )
        seen[name.casefold()] = name
    for ours, theirs in source.columns.items():
        if theirs not in columns:
            raise IngestError(
                f"{table}: file '{path}' has no column '{theirs}' (for {ours}); it has "
                f"{listed(columns)}: correct source.{table}.columns.{ours}"
                + ("" if len(columns) > 1 else f", or source.{table}.delimiter")
            )


def delimiter(source: TableSource) -> str:
    """Between the columns of a csv or tsv source."""
    return source.delimiter or DELIMITERS[source.format]


def quote_character(source: TableSource) -> str:
    """Around values of a csv or tsv source; "" for none."""
    return _QUOTES[source.format] if source.quote is None else source.quote


def listed(columns: Iterable[str]) -> str:
    """Names as a message shows them."""
    return ", ".join(f"'{name}'" for name in columns)
