"""Core metrics of Great Expectations as Ibis expressions: of tables, of columns, of rows.

A row metric is a condition that rows have to meet; rows that do not are counted in the table's
aggregate query, and looked at by a small query of their own when there are some.
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.validation.gx_ibis.engine import plain
from ingestion.validation.gx_ibis.masking import masked
from ingestion.validation.gx_ibis.registry import (
    TABLE_KEYS,
    aggregate,
    column_of,
    value,
)

EXAMINED = 50  # unexpected values that are fetched: different ones, the smallest
Condition = Callable[..., Any]


def row_metric(
    name: str,
    condition: Condition,
    values: tuple[str, ...] = (),
    nulls_count: bool = False,
    show: Callable[[Any], Any] = masked,
) -> None:
    """Register `<name>.unexpected_count` and `.unexpected_values` for a column.

    Args:
        condition: (column, **values) → boolean column: what is expected of a value.
        nulls_count: nulls are looked at as well; else they are neither good nor bad.
        show: what is shown of an unexpected value.
    """

    def unexpected(table: ir.Table, column: str, given: dict[str, Any]) -> Any:
        values = column_of(table, column)
        broken = ~condition(values, **given)
        return broken if nulls_count else values.notnull() & broken

    def count(table: ir.Table, column: str, **given: Any) -> ir.Scalar:
        return unexpected(table, column, given).sum().fill_null(0)

    def examples(table: ir.Table, column: str, metrics: Any, **given: Any) -> list[Any]:
        given.pop("result_format", None)
        if not metrics[f"{name}.unexpected_count"]:
            return []
        return sample(table.filter(unexpected(table, column, given)), [column], show)

    aggregate(f"{name}.unexpected_count", count, values=values)
    value(
        f"{name}.unexpected_values",
        examples,
        values=(*values, "result_format"),
        needs=(f"{name}.unexpected_count",),
    )


def sample(rows: ir.Table, columns: list[str], show: Callable[[Any], Any] = masked) -> list[Any]:
    """Some different values of the columns: the smallest, so that every engine shows the same."""
    wanted = rows.select(*columns).distinct().order_by(*columns).limit(EXAMINED)
    found = wanted.to_pyarrow().to_pylist()
    if len(columns) == 1:
        return [show(plain(row[columns[0]])) for row in found]
    return [{name: show(plain(part)) for name, part in row.items()} for row in found]


def counted(table: ir.Table, columns: list[str], ignore_row_if: str | None = None) -> ir.Table:
    """Rows that are looked at for values of several columns, as `ignore_row_if` of GX says."""
    filled = [column_of(table, name).notnull() for name in columns]
    if ignore_row_if == "never":
        return table
    both = operator.and_ if ignore_row_if == "any_value_is_missing" else operator.or_
    return table.filter(reduce(both, filled))


def _hash(rows: ir.Table) -> ir.Value:
    return ibis.struct({name: rows[name] for name in rows.columns}).hash()


def times_repeated(table: ir.Table, columns: list[str]) -> int:
    """Rows whose values in `columns` are also another row's."""
    rows = table.select(*columns)
    different = rows.aggregate(rows=rows.count(), hashes=_hash(rows).nunique())
    (found,) = different.to_pyarrow().to_pylist()
    if found["rows"] == found["hashes"]:  # equal values have equal hashes: none is there twice
        return 0
    return int(repeated(table, columns).times.sum().fill_null(0).to_pyarrow().as_py())


def repeated(table: ir.Table, columns: list[str]) -> ir.Table:
    """Values of `columns` that occur more than once, and how often (`times`).

    A 64-bit hash finds the candidates first: its groups take a fraction of the memory that groups
    of the values themselves would; the candidates are then compared exactly.
    """
    rows = table.select(*columns)
    key = _hash(rows)
    hashes = rows.select(key=key)
    often = hashes.group_by("key").having(hashes.count() > 1).agg()
    candidates = rows.mutate(key=key).semi_join(often, "key").drop("key")
    groups = candidates.group_by(columns).agg(times=candidates.count())
    return groups.filter(groups.times > 1)


def _between(
    column: Any,
    min_value: Any = None,
    max_value: Any = None,
    strict_min: bool = False,
    strict_max: bool = False,
    **_: Any,
) -> Any:
    if min_value is None and max_value is None:
        raise ValueError("min_value and max_value cannot both be None")
    met: Any = ibis.literal(True)
    if min_value is not None:
        met = met & (column > min_value if strict_min else column >= min_value)
    if max_value is not None:
        met = met & (column < max_value if strict_max else column <= max_value)
    return met


def _filled(value_set: Any) -> list[Any]:
    """In SQL no value is known to be in, or not in, a set that has a null."""
    return [each for each in value_set if each is not None]


def _register_rows() -> None:
    row_metric("column_values.nonnull", lambda column: column.notnull(), nulls_count=True)
    row_metric("column_values.null", lambda column: column.isnull())
    row_metric("column_values.between", _between)
    row_metric(
        "column_values.value_length.between",
        lambda column, **given: _between(column.length(), **given),
    )
    row_metric(
        "column_values.in_set", lambda column, value_set, **_: column.isin(_filled(value_set))
    )
    row_metric(
        "column_values.not_in_set", lambda column, value_set, **_: column.notin(_filled(value_set))
    )
    row_metric("column_values.match_regex", lambda column, regex: column.re_search(regex))
    row_metric("column_values.not_match_regex", lambda column, regex: ~column.re_search(regex))


def _register_unique() -> None:
    def times(table: ir.Table, columns: list[str], ignore: str | None) -> int:
        return times_repeated(counted(table, columns, ignore), columns)

    def of(table: ir.Table, columns: list[str], ignore: str | None, broken: int) -> list[Any]:
        return sample(repeated(counted(table, columns, ignore), columns), columns) if broken else []

    single, compound = "column_values.unique", "compound_columns.unique"
    value(f"{single}.unexpected_count", lambda table, column: times(table, [column], None))
    value(
        f"{single}.unexpected_values",
        lambda table, column, metrics, **_: of(
            table, [column], None, metrics[f"{single}.unexpected_count"]
        ),
        needs=(f"{single}.unexpected_count",),
    )
    value(
        f"{compound}.unexpected_count",
        lambda table, column_list, ignore_row_if: times(table, list(column_list), ignore_row_if),
    )
    value(
        f"{compound}.unexpected_values",
        lambda table, column_list, ignore_row_if, metrics, **_: of(
            table, list(column_list), ignore_row_if, metrics[f"{compound}.unexpected_count"]
        ),
        needs=(f"{compound}.unexpected_count",),
    )
    value(
        f"{compound}.filtered_row_count",
        lambda table, column_list, ignore_row_if, **_: int(
            counted(table, list(column_list), ignore_row_if).count().to_pyarrow().as_py()
        ),
    )


def _register_tables() -> None:
    aggregate("table.row_count", lambda table: table.count(), TABLE_KEYS)
    value("table.columns", lambda table: list(table.columns), TABLE_KEYS)
    value("table.column_count", lambda table: len(table.columns), TABLE_KEYS)
    value(
        "table.column_types",
        lambda table, **_: [{"name": n, "type": str(t)} for n, t in table.schema().items()],
        TABLE_KEYS,
    )


def _register_columns() -> None:
    for name, method in (
        *(("column.min", "min"), ("column.max", "max"), ("column.mean", "mean")),
        *(("column.sum", "sum"), ("column.standard_deviation", "std")),
        *(("column.median", "median"), ("column.distinct_values.count", "nunique")),
        ("column_values.nonnull.count", "count"),
    ):
        aggregate(
            name,
            lambda table, column, method=method, **_: getattr(column_of(table, column), method)(),
        )


_register_tables()
_register_columns()
_register_rows()
_register_unique()
