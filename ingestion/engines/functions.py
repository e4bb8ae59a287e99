"""What engines have under different names, as functions of Ibis expressions."""

from typing import Any

import ibis
import ibis.expr.datatypes as dt

UTC = dt.Timestamp(timezone="UTC", scale=6)


@ibis.udf.scalar.builtin(signature=((dt.int64,), UTC))
def make_timestamptz(us: int) -> Any:
    """DuckDB: microseconds since 1970 as a time."""


@ibis.udf.scalar.builtin(signature=((dt.int64,), UTC))
def timestamp_micros(us: int) -> Any:
    """Spark: microseconds since 1970 as a time."""


@ibis.udf.scalar.builtin
def to_json(row) -> dt.json:  # type: ignore[no-untyped-def]  # of any struct type
    """Both: a struct as a JSON object."""


@ibis.udf.scalar.builtin(signature=((dt.string, dt.string), dt.Timestamp(scale=6)))
def try_strptime(text: str, pattern: str) -> Any:
    """DuckDB: a text as a time by a pattern of strptime; null where it does not fit."""


@ibis.udf.scalar.builtin(signature=((dt.string, dt.string), UTC))
def try_to_timestamp(text: str, pattern: str) -> Any:
    """Spark: a text as a time by a pattern of Java; null where it does not fit."""
