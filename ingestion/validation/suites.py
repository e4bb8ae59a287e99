"""What a snapshot's tables are expected to be, as Great Expectations suites."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from great_expectations import expectations as gxe

from ingestion.validation.settings import ValidationConfig
from recommender import schema

# Columns that `ingestion.validation` adds: the ids of a row that the other table lacks, else null.
ORPHAN_ITEM, ORPHAN_USER = "item_id not in items", "user_id not in users"
_NUMPY_TYPES = {"int64": "int64", "double": "float64", "string": "str"}


@dataclass(frozen=True)
class Named:
    """An expectation under the name that reports and `warn_only` use: table.column.check."""

    name: str
    column: str
    limit: str  # as a reader would say it
    expectation: Any


def suites(config: ValidationConfig, now: datetime) -> dict[str, list[Named]]:
    """The expectations of events, items and users; ages are measured from `now`."""
    return {
        "events": _events(config, config.as_of or now),
        "items": _items(config),
        "users": _users(config),
    }


def _events(config: ValidationConfig, now: datetime) -> list[Named]:
    newest: dict[str, Any] = {"max_value": _naive(now)}
    limit = f"not after {now:%Y-%m-%d %H:%M} UTC"
    if config.max_age_days is not None:
        oldest = now - timedelta(days=config.max_age_days)
        newest["min_value"] = _naive(oldest)
        limit = f"at most {config.max_age_days:g} days before {now:%Y-%m-%d %H:%M} UTC"
    key = [schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_TYPE]
    low, high = config.min_value, config.max_value
    checks = [
        *_common("events", config.min_events, config.max_events),
        _named(
            "events.timestamp.earliest",
            f"not before {config.earliest:%Y-%m-%d %H:%M}",
            gxe.ExpectColumnMinToBeBetween(
                column=schema.TIMESTAMP, min_value=_naive(config.earliest)
            ),
        ),
        _named(
            "events.timestamp.newest",
            limit,
            gxe.ExpectColumnMaxToBeBetween(column=schema.TIMESTAMP, **newest),
        ),
        _named(
            "events.unique",
            "no two of one user, item, time and type",
            gxe.ExpectCompoundColumnsToBeUnique(column_list=key),
            column=", ".join(key),
        ),
        _named(
            "events.item_id.known",
            "in items.item_id",
            gxe.ExpectColumnValuesToBeNull(column=ORPHAN_ITEM),
            column=schema.ITEM_ID,
        ),
        _named(
            "events.user_id.known",
            "in users.user_id",
            gxe.ExpectColumnValuesToBeNull(column=ORPHAN_USER),
            column=schema.USER_ID,
        ),
    ]
    if low is not None or high is not None:
        expectation = gxe.ExpectColumnValuesToBeBetween(
            column=schema.VALUE, min_value=low, max_value=high
        )
        checks.append(_named("events.value.range", _between(low, high), expectation))
    return checks


def _items(config: ValidationConfig) -> list[Named]:
    length = (config.min_text_length, config.max_text_length)
    return [
        *_common("items", config.min_items, config.max_items),
        _unique("items", schema.ITEM_ID),
        _length("items", schema.ITEM_ID, 1, None),
        _length("items", schema.TITLE, 1, None),
        _length("items", schema.TEXT, *length),
    ]


def _users(config: ValidationConfig) -> list[Named]:
    return [
        *_common("users", config.min_users, config.max_users),
        _unique("users", schema.USER_ID),
        _length("users", schema.USER_ID, 1, None),
    ]


def _common(table: str, min_rows: int, max_rows: int | None) -> Iterable[Named]:
    """Row count; then each column of the schema: there, without nulls, of its type."""
    yield _named(
        f"{table}.rows",
        _between(min_rows, max_rows),
        gxe.ExpectTableRowCountToBeBetween(min_value=min_rows, max_value=max_rows),
        column="",
    )
    for field in schema.TABLES[table]:
        column = field.name
        yield _named(f"{table}.{column}.exists", "a column", gxe.ExpectColumnToExist(column=column))
        yield _named(
            f"{table}.{column}.not_null",
            "no nulls",
            gxe.ExpectColumnValuesToNotBeNull(column=column),
        )
        if numpy_type := _NUMPY_TYPES.get(str(field.type)):
            expectation: Any = gxe.ExpectColumnValuesToBeOfType(column=column, type_=numpy_type)
            yield _named(f"{table}.{column}.type", numpy_type, expectation)
        elif column == schema.TIMESTAMP:
            types = [f"datetime64[{unit}]" for unit in ("us", "ns")]
            expectation = gxe.ExpectColumnValuesToBeInTypeList(column=column, type_list=types)
            yield _named(f"{table}.{column}.type", "a time", expectation)


def _unique(table: str, column: str) -> Named:
    expectation = gxe.ExpectColumnValuesToBeUnique(column=column)
    return _named(f"{table}.{column}.unique", "no value twice", expectation)


def _length(table: str, column: str, low: int, high: int | None) -> Named:
    expectation = gxe.ExpectColumnValueLengthsToBeBetween(
        column=column, min_value=low, max_value=high
    )
    return _named(f"{table}.{column}.length", f"{_between(low, high)} characters", expectation)


def _named(name: str, limit: str, expectation: Any, column: str | None = None) -> Named:
    return Named(name, expectation.column if column is None else column, limit, expectation)


def _between(low: float | None, high: float | None) -> str:
    if high is None:
        return f">= {low:,}"
    return f"<= {high:,}" if low is None else f"{low:,} to {high:,}"


def _naive(moment: datetime) -> datetime:
    """UTC without a zone, as the frames have it: GX compares no times with zones."""
    return moment.astimezone(UTC).replace(tzinfo=None)
