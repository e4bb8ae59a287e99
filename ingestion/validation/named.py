"""An expectation under the name that people use for it."""

from dataclasses import dataclass
from typing import Any

from ingestion.validation.settings import Severity


@dataclass(frozen=True)
class Named:
    """An expectation under the name that reports and `warn_only` use: table.column.check."""

    name: str
    column: str
    limit: str  # as a reader would say it
    expectation: Any
    severity: Severity = "critical"


def named(name: str, limit: str, expectation: Any, column: str | None = None) -> Named:
    return Named(name, expectation.column if column is None else column, limit, expectation)


def between(low: float | None, high: float | None) -> str:
    if high is None:
        return f">= {low:,}"
    return f"<= {high:,}" if low is None else f"{low:,} to {high:,}"
