"""How a metric becomes one that the Ibis engine can compute.

A metric of Great Expectations has one provider an engine, looked up by the engine's class name.
Names, domains and arguments of core metrics stay as they are, so core expectations find them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import great_expectations.exceptions as gx_exceptions
import ibis.expr.types as ir
from great_expectations.core.metric_function_types import (
    MetricFunctionTypes,
    MetricPartialFunctionTypes,
)
from great_expectations.expectations import registry
from great_expectations.expectations.metrics.metric_provider import MetricProvider
from great_expectations.validator.metric_configuration import MetricConfiguration

from ingestion.validation.gx_ibis.engine import IbisExecutionEngine

TABLE_KEYS = ("batch_id", "table", "row_condition", "condition_parser")
COLUMN_KEYS = (*TABLE_KEYS, "column")
_AGGREGATE = MetricPartialFunctionTypes.AGGREGATE_FN

registry.register_core_metrics()


def aggregate(
    name: str,
    scalar: Callable[..., ir.Scalar],
    domain: tuple[str, ...] = COLUMN_KEYS,
    values: tuple[str, ...] = (),
) -> None:
    """Register a metric that is one number of a table, computed together with others.

    Args:
        name: of the metric; domain and values are those of a core metric of that name.
        scalar: (table, **domain and value arguments) → Ibis scalar expression.
    """
    domain, values = _keys(name, domain, values)

    def partial(**given: Any) -> tuple[ir.Scalar, dict[str, Any], dict[str, Any]]:
        engine, kwargs = given["execution_engine"], given["metric_domain_kwargs"]
        table = engine.get_domain_records(kwargs)
        compute = {key: kwargs[key] for key in TABLE_KEYS if kwargs.get(key)}
        return scalar(table, **_arguments(given)), compute, {}

    provider = _provider(name, domain, values)
    for suffix, function in ((f".{_AGGREGATE.metric_suffix}", partial), ("", None)):
        registry.register_metric(
            f"{name}{suffix}", domain, values, IbisExecutionEngine, provider, function, _AGGREGATE
        )


def value(
    name: str,
    compute: Callable[..., Any],
    domain: tuple[str, ...] = COLUMN_KEYS,
    values: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
) -> None:
    """Register a metric with queries of its own.

    Args:
        compute: (table, **arguments) → value; with `needs`, also `metrics`, their values by name.
        needs: metrics of the same domain and arguments that are computed before.
    """
    domain, values = _keys(name, domain, values)

    def run(**given: Any) -> Any:
        table = given["execution_engine"].get_domain_records(given["metric_domain_kwargs"])
        known = {"metrics": given["metrics"]} if needs else {}
        return compute(table, **_arguments(given), **known)

    provider = _provider(name, domain, values, needs)
    registry.register_metric(
        name, domain, values, IbisExecutionEngine, provider, run, MetricFunctionTypes.VALUE
    )


def column_of(table: ir.Table, column: str) -> ir.Column:
    """A column by name.

    Raises:
        InvalidMetricAccessorDomainKwargsKeyError: as GX's own engines raise it.
    """
    if column not in table.columns:
        raise gx_exceptions.InvalidMetricAccessorDomainKwargsKeyError(
            f'The column "{column}" does not exist; there are {", ".join(table.columns)}'
        )
    return table[column]


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    everything = {**given["metric_domain_kwargs"], **given["metric_value_kwargs"]}
    return {key: value for key, value in everything.items() if key not in TABLE_KEYS}


def _chosen(kwargs: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: kwargs.get(key) for key in keys}


def _keys(
    name: str, domain: tuple[str, ...], values: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        known = registry.get_metric_kwargs(name)
    except gx_exceptions.MetricProviderError:
        return domain, values
    return tuple(known["metric_domain_keys"]), tuple(known["metric_value_keys"])


def _provider(
    name: str, domain: tuple[str, ...], values: tuple[str, ...], needs: tuple[str, ...] = ()
) -> type[MetricProvider]:
    """A class that says what a metric depends on; it has no `metric_name`, so GX leaves it be."""

    class Provider(MetricProvider):
        domain_keys = domain
        value_keys = values

        @classmethod
        def _get_evaluation_dependencies(
            cls,
            metric: MetricConfiguration,
            configuration: Any = None,
            execution_engine: Any = None,
            runtime_configuration: Any = None,
        ) -> dict[str, Any]:
            dependencies = super()._get_evaluation_dependencies(
                metric, configuration, execution_engine, runtime_configuration
            )
            for needed in needs:
                domain, values = _keys(needed, (), ())
                dependencies[needed] = MetricConfiguration(
                    metric_name=needed,
                    metric_domain_kwargs=_chosen(metric.metric_domain_kwargs, domain),
                    metric_value_kwargs=_chosen(metric.metric_value_kwargs, values),
                )
            return dependencies

    Provider.__name__ = f"Ibis metric {name}"
    return Provider
