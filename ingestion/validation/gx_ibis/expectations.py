"""Bases of expectations of our own, as Great Expectations wants them: on any Ibis table."""

from typing import Any, ClassVar

from great_expectations.expectations.expectation import BatchExpectation

import ingestion.validation.gx_ibis.metrics  # noqa: F401  # registers them


class MeasureBetween(BatchExpectation):
    """A number measured of a table is between two limits; without a number there is nothing wrong.

    A subclass names its metric, whose value is the number or a dict that has it under `statistic`,
    and gives the metric's arguments as fields that are `success_keys`.
    """

    min_value: float | None = None
    max_value: float | None = None

    success_keys: ClassVar[tuple[str, ...]] = ("min_value", "max_value")
    statistic: ClassVar[str | None] = None

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: Any = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        (name,) = self.metric_dependencies
        measured = metrics[name]
        number = measured[self.statistic] if self.statistic else measured
        result: dict[str, Any] = {"observed_value": number}
        if isinstance(measured, dict):
            result["details"] = measured
        met = number is None or (
            (self.min_value is None or number >= self.min_value)
            and (self.max_value is None or number <= self.max_value)
        )
        return {"success": bool(met), "result": result}

    @classmethod
    def _get_observed_value_from_evr(cls, result: Any) -> str:
        """For Data Docs: the number, and what is said of it."""
        number = str(super()._get_observed_value_from_evr(result))
        said = (result.result.get("details") or {}).get("said") if result else None
        return f"{number}: {said}" if said else number


class ExpectColumnToHaveType(BatchExpectation):
    """A column is of a type, whatever the engine calls it; nulls and time zones do not matter."""

    column: str
    type_: str  # as Ibis says it, without its parameters: string, int64, float64, timestamp

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.column_types",)
    success_keys: ClassVar[tuple[str, ...]] = ("column", "type_")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: Any = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        types = {found["name"]: found["type"] for found in metrics["table.column_types"]}
        found = types.get(self.column)
        met = found is not None and found.removeprefix("!").split("(")[0] == self.type_
        return {"success": met, "result": {"observed_value": found or "no such column"}}
