"""Results of Great Expectations as rows of validation.json, as a gate's checks, in words."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ingestion.validation.project import SITE
from recommender.errors import Check

_SAMPLES = 5


def as_row(table: str, check: Any, result: Any) -> dict[str, Any]:
    """One expectation: what was expected, what was found.

    Args:
        check: ingestion.validation.suites.Named.
        result: GX's ExpectationValidationResult.
    """
    found = result.result or {}
    examined = [_plain(value) for value in found.get("partial_unexpected_list") or []]
    details = found.get("details") or {}
    return {
        "name": check.name,
        "table": table,
        "expectation": result.expectation_config.type,
        "column": check.column,
        "limit": check.limit,
        "observed": _plain(found.get("observed_value")),
        "said": str(details.get("said", "")),
        "unexpected_count": int(found.get("unexpected_count") or 0),
        "samples": list({str(value): value for value in examined}.values())[:_SAMPLES],
        "success": bool(result.success),
        "severity": check.severity,
        "error": _error(result.exception_info),
    }


def _error(info: Any) -> str:
    """What an expectation stumbled over, such as a column that is not there; else ""."""
    if not info:
        return ""
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [
        entry.get("exception_message") or "" for entry in entries if isinstance(entry, dict)
    ]
    return next(filter(None, messages), "")


def _plain(value: Any) -> Any:
    """For JSON: numbers and texts as they are, containers by part, the rest as text."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def stops(row: dict[str, Any]) -> bool:
    return not row["success"] and row["severity"] == "critical"


def warns(row: dict[str, Any]) -> bool:
    return not row["success"] and row["severity"] != "critical"


def found_in(row: dict[str, Any]) -> str:
    """What was found, in a few words."""
    if row["error"]:
        return str(row["error"].splitlines()[0])
    if row["unexpected_count"]:
        rows = f"{row['unexpected_count']:,} values break it"
        samples = ", ".join(repr(sample) for sample in row["samples"] if sample is not None)
        return f"{rows}, such as {samples}" if samples else rows
    observed = row["observed"]
    if isinstance(observed, float):
        observed = f"{observed:.4g}"
    return f"found {observed}" + (f": {row['said']}" if row["said"] else "")


def as_check(row: dict[str, Any]) -> Check:
    """An expectation of validation.json as a gate shows it; one that only warns passes."""
    broken = row["unexpected_count"]
    found = f"{broken:,} values break it" if broken else str(row["observed"])
    value = row["error"].splitlines()[0] if row["error"] else found
    warning = " (only warned of)" if warns(row) else ""
    return Check(f"{row['name']}{warning}", value, str(row["limit"]), not stops(row))


def describe(row: dict[str, Any]) -> str:
    """One line: name, table, column, limit, what was found."""
    column = f" column '{row['column']}'" if row["column"] else ""
    return (
        f"{row['name']} ({row['expectation']}): {row['table']}{column}, limit {row['limit']}: "
        + found_in(row)
    )


def message(rows: Iterable[dict[str, Any]], out_dir: Path, accepted: Path | None) -> str:
    """Why a validation failed, and the ways out."""
    rows = list(rows)
    stopping = [row for row in rows if stops(row)]
    lines = [f"validation failed: {len(stopping)} of {len(rows)} expectations"]
    lines += [f"  {describe(row)}" for row in stopping]
    lines.append(
        f"see {out_dir / SITE / 'index.html'}; correct the data, move the limit in the "
        "`validation` section, or name the check in validation.warn_only"
    )
    if accepted is not None and any(row["name"].startswith("drift.") for row in stopping):
        lines.append(
            f"if the data has changed for good, remove {accepted}: the next run is then accepted "
            "without being compared"
        )
    return "\n".join(lines)
