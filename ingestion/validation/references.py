"""References between tables: an id is in the table that it refers to."""

from typing import Any, ClassVar

import ibis.expr.types as ir
from great_expectations.expectations.expectation import ColumnMapExpectation

from ingestion.validation.gx_ibis.engine import TABLES
from ingestion.validation.gx_ibis.metrics import sample
from ingestion.validation.gx_ibis.registry import column_of, value

SOURCE = "snapshot"  # the data source that all tables of a snapshot belong to


def unknown(table: ir.Table, column: str, other: str) -> ir.Table:
    """Rows whose id is not null and not in the same column of another table of the snapshot."""
    known = TABLES[SOURCE, other]
    column_of(known, column)
    rows = table.filter(column_of(table, column).notnull()).select(column)
    return rows.anti_join(known.select(column), column)


def _count(table: ir.Table, column: str, other: str) -> int:
    return int(unknown(table, column, other).count().to_pyarrow().as_py())


def _values(table: ir.Table, column: str, other: str, metrics: Any, **_: Any) -> list[Any]:
    if not metrics["column_values.in_other_table.unexpected_count"]:
        return []
    return sample(unknown(table, column, other), [column])


value("column_values.in_other_table.unexpected_count", _count, values=("other",))
value(
    "column_values.in_other_table.unexpected_values",
    _values,
    values=("other", "result_format"),
    needs=("column_values.in_other_table.unexpected_count",),
)


class ExpectColumnValuesToBeInOtherTable(ColumnMapExpectation):
    """Every id is in the same column of another table."""

    other: str

    map_metric = "column_values.in_other_table"
    success_keys: ClassVar[tuple[str, ...]] = ("other", "mostly")
