"""`filters` of a table: rows that the configuration leaves out, which is no fault of theirs."""

from collections.abc import Callable
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.numbers import number
from ingestion.reading.settings import FilterConfig

FILTERED = "filtered: "  # what the reason of such a row starts with


def checks(filters: list[FilterConfig], table: ir.Table) -> list[tuple[ir.BooleanValue, str]]:
    """(whether a row is left out, the reason) of every filter."""
    return [(~_matches(each, table[each.column]), FILTERED + each.name) for each in filters]


def _matches(asked: FilterConfig, column: ir.Value) -> ir.BooleanValue:
    text = column.cast("string").strip()
    if asked.not_null:
        found: Any = text.nullif("").notnull()
    elif asked.equals is not None:
        found = _is(column, asked.equals)
    elif asked.one_of is not None:
        found = ibis.or_(*(_is(column, value) for value in asked.one_of))
    else:
        found = ibis.literal(True)
        limits: list[tuple[Any, Callable[[Any, Any], Any]]] = [
            (asked.at_least, lambda value, limit: value >= limit),
            (asked.at_most, lambda value, limit: value <= limit),
        ]
        for limit, holds in limits:
            if limit is not None:
                value = text if isinstance(limit, str) else number(column)
                found = found & holds(value, limit)
    return found.fill_null(False)


def _is(column: ir.Value, value: bool | int | float | str) -> ir.Value:
    text = column.cast("string").strip()
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, str):
        return text == value
    return number(column) == float(value)
