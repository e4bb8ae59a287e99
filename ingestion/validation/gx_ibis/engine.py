"""An execution engine of Great Expectations whose batches are Ibis tables.

Metrics that are one number of a table are handed over as Ibis expressions; the engine computes
all of them that are asked for at once by one aggregate query a table.
"""

import operator
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import great_expectations.exceptions as gx_exceptions
import ibis.expr.types as ir
from great_expectations.core import IDDict
from great_expectations.core.batch import BatchData, BatchMarkers
from great_expectations.execution_engine import ExecutionEngine
from great_expectations.expectations.row_conditions import Operator, deserialize_row_condition

_COMPARISONS = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS_THAN: operator.lt,
    Operator.LESS_THAN_OR_EQUAL: operator.le,
    Operator.GREATER_THAN: operator.gt,
    Operator.GREATER_THAN_OR_EQUAL: operator.ge,
}

# (data source, asset): the tables of the process that validates; a project's files name them only.
TABLES: dict[tuple[str, str], ir.Table] = {}


class IbisBatchData(BatchData):
    """A batch that is an Ibis table: a query, not rows."""

    def __init__(self, execution_engine: ExecutionEngine, table: ir.Table) -> None:
        super().__init__(execution_engine=execution_engine)
        self.table = table


class IbisExecutionEngine(ExecutionEngine):
    """Computes metrics of Ibis tables; row conditions of expectations are filters."""

    queries = 0  # aggregate queries so far: what a suite costs, for tests

    def load_batch_data(self, batch_id: str, batch_data: Any) -> None:
        if isinstance(batch_data, ir.Table):
            batch_data = IbisBatchData(self, batch_data)
        super().load_batch_data(batch_id=batch_id, batch_data=batch_data)

    def get_batch_data_and_markers(self, batch_spec: Any) -> tuple[IbisBatchData, BatchMarkers]:
        markers = BatchMarkers({"ge_load_time": f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"})
        return IbisBatchData(self, batch_spec.batch_data), markers

    def get_domain_records(self, domain_kwargs: dict[str, Any]) -> ir.Table:
        """The table of a batch, with the row condition of an expectation applied.

        Raises:
            GreatExpectationsError: there is no such batch, or a condition is written in a
                language of another engine.
        """
        batch_id = domain_kwargs.get("batch_id") or self.batch_manager.active_batch_data_id
        data: Any = self.batch_manager.batch_data_cache.get(str(batch_id))
        if data is None:
            raise gx_exceptions.GreatExpectationsError(f"no batch '{batch_id}' is loaded")
        condition = deserialize_row_condition(domain_kwargs.get("row_condition"))
        if not condition:
            return data.table
        if isinstance(condition, str):
            raise gx_exceptions.GreatExpectationsError(
                "row_condition must be a condition such as Column('x') > 0, not a text"
            )
        return data.table.filter(self.condition_to_filter_clause(condition)(data.table))

    def get_compute_domain(
        self, domain_kwargs: dict[str, Any], domain_type: Any, accessor_keys: Any = None
    ) -> tuple[ir.Table, dict[str, Any], dict[str, Any]]:
        parts = self._partition_domain_kwargs(domain_kwargs, domain_type, accessor_keys)
        return self.get_domain_records(domain_kwargs), parts.compute, parts.accessor

    def resolve_metric_bundle(self, metric_fn_bundle: Iterable[Any]) -> dict[Any, Any]:
        """All metrics of one table by one aggregate query."""
        bundles: dict[Any, tuple[dict[str, Any], list[Any]]] = {}
        for metric in metric_fn_bundle:
            kwargs = IDDict(metric.compute_domain_kwargs or {})
            bundles.setdefault(kwargs.to_id(), (kwargs, []))[1].append(metric)
        resolved = {}
        for domain, metrics in bundles.values():
            table = self.get_domain_records(domain)
            scalars = {f"m{i}": metric.metric_fn for i, metric in enumerate(metrics)}
            (row,) = table.aggregate(**scalars).to_pyarrow().to_pylist()
            self.queries += 1
            for name, metric in zip(scalars, metrics, strict=True):
                resolved[metric.metric_configuration.id] = plain(row[name])
        return resolved

    def _comparison_condition_to_filter_clause(self, condition: Any) -> Any:
        name, value = condition.column.name, condition.parameter
        if condition.operator == Operator.IN:
            return lambda table: table[name].isin(value)
        if condition.operator == Operator.NOT_IN:
            return lambda table: table[name].notin(value)
        compare = _COMPARISONS[condition.operator]
        return lambda table: compare(table[name], value)

    def _nullity_condition_to_filter_clause(self, condition: Any) -> Any:
        name = condition.column.name
        if condition.is_null:
            return lambda table: table[name].isnull()
        return lambda table: table[name].notnull()

    def _and_condition_to_filter_clause(self, condition: Any) -> Any:
        return self._joined(condition, operator.and_)

    def _or_condition_to_filter_clause(self, condition: Any) -> Any:
        return self._joined(condition, operator.or_)

    def _joined(self, condition: Any, by: Any) -> Any:
        parts = [self.condition_to_filter_clause(part) for part in condition.conditions]
        return lambda table: reduce(by, [part(table) for part in parts])


def plain(value: Any) -> Any:
    """As GX compares and writes it: times in UTC without a zone."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value
