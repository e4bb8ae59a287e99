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


@ibis.udf.scalar.builtin(signature=((UTC,), dt.int64))
def epoch_us(moment: Any) -> Any:
    """DuckDB: a time as microseconds since 1970."""


@ibis.udf.scalar.builtin(signature=((UTC,), dt.int64))
def unix_micros(moment: Any) -> Any:
    """Spark: a time as microseconds since 1970."""


@ibis.udf.scalar.builtin
def to_json(row) -> dt.json:  # type: ignore[no-untyped-def]  # of any struct type
    """Both: a struct as a JSON object."""
