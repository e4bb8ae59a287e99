"""The columns of JSON Lines, and their types, as DuckDB finds them in all of the lines."""

import json
from collections.abc import Collection
from typing import Any

from ingestion.reading.sql_text import quoted, run_sql

# Types that DuckDB guesses from the look of a string; here it stays the string it is.
_GUESSED = ("DATE", "TIME", "UUID")


def json_columns(
    connection: Any, paths: str, options: str, ids: Collection[str] = ()
) -> dict[str, str]:
    """Type by column, in the order in which they first come; mixed ones are JSON.

    Args:
        paths: of the files, as SQL.
        options: of read_json, as SQL.
        ids: columns that are JSON, so that they stay as written, where they would be floats: two
            ids of twenty digits are one float.

    Raises:
        OSError: no line is an object.
    """
    query = f"read_json([{paths}], {options}, sample_size=-1, union_by_name=true)"
    found = {row[0]: row[1] for row in run_sql(connection, f"DESCRIBE SELECT * FROM {query}")}
    if list(found) == ["json"]:
        # A line of another kind of JSON, and DuckDB takes no line for an object.
        lines = f"read_json_objects([{paths}], {options})"
        (structure,) = run_sql(
            connection,
            f"SELECT json_group_structure(json) FROM {lines} WHERE json_type(json) = 'OBJECT'",
        )[0]
        fields = json.loads(structure or "{}")  # a text where no object has any
        found = (
            {name: _type(kind) for name, kind in fields.items()} if isinstance(fields, dict) else {}
        )
    if not found:
        raise OSError("its lines must each be one JSON object")
    kinds = {name: "VARCHAR" if kind.startswith(_GUESSED) else kind for name, kind in found.items()}
    return {
        name: "JSON" if name in ids and kind == "DOUBLE" else kind for name, kind in kinds.items()
    }


def _type(kind: Any) -> str:
    """What json_group_structure says, as a type."""
    if isinstance(kind, dict):
        return f"STRUCT({', '.join(f'{quoted(name)} {_type(of)}' for name, of in kind.items())})"
    if isinstance(kind, list):
        return f"{_type(kind[0])}[]"
    return {"UBIGINT": "BIGINT", "NULL": "JSON"}.get(kind, kind)
