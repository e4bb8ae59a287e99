"""SQL of DuckDB: running it, names and values in it, and what it runs out of."""

from typing import Any

from ingestion.errors import IngestError


def run_sql(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Every row of the result: DuckDB refuses the next statement while rows are left."""
    return list(connection.raw_sql(statement).fetchall())


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def out_of_room(what: str, error: Exception) -> IngestError:
    """For an error of memory or of the disk."""
    return IngestError(
        f"DuckDB has no room for {what}: {str(error).splitlines()[0]}; raise source.engine.memory, "
        "lower source.engine.threads, or make room on the disk of the run's folder"
    )
