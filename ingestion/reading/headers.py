"""The columns of a source file: the header of delimited text, and whether they fit the config."""

import csv
import io
import re
from collections.abc import Iterable

from ingestion.errors import IngestError
from ingestion.reading.files import SourceFile, open_file
from ingestion.sources import TableSource

# RecBole's files say `user_id:token`: configs name the column without its type.
_TYPED_HEADER = re.compile(r"^(.+):(token|token_seq|float|float_seq)$")
DELIMITERS = {"csv": ",", "tsv": "\t"}
_QUOTES = {"csv": '"', "tsv": ""}


def read_header(file: SourceFile, source: TableSource) -> list[str]:
    """The names in the first line, without RecBole's types; or the configured ones.

    Raises:
        OSError, EOFError: the file cannot be read.
        IngestError: its first line cannot be told from the rest.
    """
    if source.names is not None:
        return list(source.names)
    encoding = "utf-8-sig" if source.encoding == "utf-8" else source.encoding
    with open_file(file, source) as binary:
        # Undecodable bytes are for the scan to report, with their line.
        lines = io.TextIOWrapper(binary, encoding=encoding, errors="replace", newline="")
        quote = quote_character(source)
        rows = (
            csv.reader(lines, delimiter=delimiter(source), quotechar=quote)
            if len(delimiter(source)) == 1 and quote
            else (line.rstrip("\r\n").split(delimiter(source)) for line in lines)
        )
        try:
            names = [name.strip() for name in next(iter(rows), [])]
        except csv.Error as error:
            raise IngestError(
                f"file '{file.name}': the header cannot be read ({error}): most likely a quote in "
                "its first line is never closed; close it, or set `quote` of the table to ''"
            ) from error
        lines.detach()
    typed = [match.group(1) if (match := _TYPED_HEADER.match(name)) else name for name in names]
    return typed if len(set(typed)) == len(typed) else names


def check_columns(table: str, source: TableSource, file: SourceFile, columns: list[str]) -> None:
    """Raise IngestError unless the names are distinct and every mapped one is there."""
    if not any(columns):
        raise IngestError(
            f"{table}: file '{file.name}' is empty, or its first line is; point "
            f"source.{table}.path at a file that begins with its header"
        )
    seen: dict[str, str] = {}
    for name in columns:
        if not name:
            raise IngestError(
                f"{table}: file '{file.name}' has a column without a name among {listed(columns)}; "
                "name every column in the header"
            )
        if name.casefold() in seen:
            raise IngestError(
                f"{table}: file '{file.name}' has columns '{seen[name.casefold()]}' and '{name}', "
                "which differ in nothing or in case only; rename one"
            )
        seen[name.casefold()] = name
    used = {theirs: f"columns.{ours}" for ours, theirs in source.columns.items()}
    used |= {asked.column: "filters" for asked in source.filters if asked.column not in used}
    for theirs, where in used.items():
        if theirs not in columns:
            ours = where.removeprefix("columns.")
            raise IngestError(
                f"{table}: file '{file.name}' has no column '{theirs}' (for {ours}); it has "
                f"{listed(columns)}: correct source.{table}.{where}"
                + ("" if len(columns) > 1 else f", or source.{table}.delimiter")
            )


def check_same_columns(
    table: str, first: tuple[SourceFile, list[str]], other: tuple[SourceFile, list[str]]
) -> None:
    """Raise IngestError unless two files of a table have the same columns in the same order."""
    if first[1] != other[1]:
        raise IngestError(
            f"{table}: file '{other[0].name}' has columns {listed(other[1])}, but "
            f"'{first[0].name}' has {listed(first[1])}; the files of one table need the "
            f"same columns in the same order: narrow source.{table}.path"
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
