"""An expectation of one of several measures: rows of a small table (measure, value, said)."""

from collections.abc import Iterable
from typing import Any, ClassVar

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ingestion.validation.drift import Measure
from ingestion.validation.gx_ibis.expectations import MeasureBetween
from ingestion.validation.gx_ibis.registry import TABLE_KEYS, value

_SCHEMA = pa.schema([("measure", pa.string()), ("value", pa.float64()), ("said", pa.string())])


def measured(measures: Iterable[Measure]) -> ir.Table:
    """A batch of them."""
    rows = [
        {
            "measure": measure.name,
            "value": None if measure.value is None else float(measure.value),
            "said": measure.words,
        }
        for measure in measures
    ]
    return ibis.memtable(pa.Table.from_pylist(rows, _SCHEMA))


def _all(table: ir.Table) -> dict[str, dict[str, Any]]:
    return {row["measure"]: row for row in table.to_pyarrow().to_pylist()}


value("table.measures", _all, TABLE_KEYS)
value(
    "table.measure",
    lambda table, measure, metrics: metrics["table.measures"].get(measure),
    TABLE_KEYS,
    ("measure",),
    needs=("table.measures",),
)


class ExpectMeasureToBeBetween(MeasureBetween):
    """What was measured of a snapshot, or against the last accepted one, is within limits."""

    measure: str

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.measure",)
    success_keys: ClassVar[tuple[str, ...]] = ("min_value", "max_value", "measure")
    statistic: ClassVar[str | None] = "value"
