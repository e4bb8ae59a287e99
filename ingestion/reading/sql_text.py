"""SQL of DuckDB: running it, and names and values in it."""

from typing import Any


def run_sql(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Every row of the result: DuckDB refuses the next statement while rows are left."""
    return list(connection.raw_sql(statement).fetchall())


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
