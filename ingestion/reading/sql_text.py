"""SQL of DuckDB: running it, names and values in it, and what it runs out of."""

import glob
from typing import Any

from ingestion.errors import IngestError


def run_sql(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Every row of the result: DuckDB refuses the next statement while rows are left."""
    return list(connection.raw_sql(statement).fetchall())


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def file_literal(path: str) -> str:
    """One file, whatever is in its name: DuckDB would take "e[1].csv" for "e1.csv"."""
    return literal(path if "://" in path else glob.escape(path))


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def stored(name: str) -> str:
    """What a column is called in a table whose `rowid` is asked for."""
    return f"__{name}" if name.casefold() == "rowid" else name


def said(error: Exception) -> str:
    """What an error of DuckDB says, without the row that it is about."""
    first, *lines = str(error).splitlines() or [type(error).__name__]
    if "CSV Parser state machine" in first:
        return (
            f"{first} Either its lines end in different ways, \\r\\n and \\n (write "
            "them alike, as dos2unix does), or a quote stands where none may"
        )
    if "CSV Error on Line" not in first:
        return first
    # The row comes next, however many lines it has; then what is wrong; then what could be done.
    end = next((n for n, line in enumerate(lines) if line.startswith("Possible ")), len(lines))
    why = next((line for line in reversed(lines[:end]) if line), "")
    return f"{first}: {why}" if why and not why.startswith("Original Line") else first


def out_of_room(what: str, error: Exception) -> IngestError:
    """For an error of memory or of the disk."""
    return IngestError(
        f"DuckDB has no room for {what}: {str(error).splitlines()[0]}; raise source.engine.memory, "
        "lower source.engine.threads, or make room on the disk of the run's folder"
    )
