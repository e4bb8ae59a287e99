"""What a snapshot's tables are expected to be, as Great Expectations suites."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis.expr.types as ir
from great_expectations import expectations as gxe

from ingestion.validation import personal
from ingestion.validation.drift import Measure
from ingestion.validation.gx_ibis.expectations import ExpectColumnToHaveType
from ingestion.validation.interaction_checks import interaction_checks
from ingestion.validation.measured import ExpectMeasureToBeBetween
from ingestion.validation.named import Named, between, named
from ingestion.validation.references import ExpectColumnValuesToBeInOtherTable
from ingestion.validation.settings import Severity, ValidationConfig
from recommender import schema

MEASURES = "snapshot"  # the suite of what is measured of all tables together
_TYPES = {"int64": "int64", "double": "float64", "string": "string"}
# Ids that were numbers and became floats on their way: 123.0, 1.2e+08.
_FLOAT = r"^-?[0-9]+\.0+$|^-?[0-9](\.[0-9]+)?[eE]\+?[0-9]+$"
# UTF-8 that was read as Latin-1 or Windows-1252, and what decoders put for what they cannot read.
_MOJIBAKE = "Ã[\u0080-\u00bf\u2018-\u2122]|Â[\u0080-\u00bf]|â€|\ufffd"


def suites(
    config: ValidationConfig,
    now: datetime,
    tables: Mapping[str, ir.Table],
    measures: Iterable[Measure] = (),
    unknown_items: int = 0,
) -> dict[str, list[Named]]:
    """The expectations of events, items and users, and of what is measured of all.

    Args:
        now: ages are measured from it, unless the config says `as_of`.
        tables: for their text columns.
        unknown_items: events that ingestion refused since their item is not there.
    """
    found = {
        "events": [
            *_events(config, (config.as_of or now).astimezone(UTC)),
            *interaction_checks(config.interactions, unknown_items),
        ],
        "items": _items(config),
        "users": _users(config),
    }
    for table, checks in found.items():
        checks += _personal(config, table, tables[table])
    found[MEASURES] = [_measure(measure) for measure in measures]
    chosen: dict[str, Severity] = {**config.severities}
    for name in config.warn_only:
        chosen[name] = "warning"
    return {
        table: [replace(check, severity=chosen.get(check.name, check.severity)) for check in checks]
        for table, checks in found.items()
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
        named(
            "events.timestamp.earliest",
            f"not before {config.earliest.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            gxe.ExpectColumnMinToBeBetween(
                column=schema.TIMESTAMP, min_value=_naive(config.earliest)
            ),
        ),
        named(
            "events.timestamp.newest",
            limit,
            gxe.ExpectColumnMaxToBeBetween(column=schema.TIMESTAMP, **newest),
        ),
        named(
            "events.unique",
            "no two of one user, item, time and type",
            gxe.ExpectCompoundColumnsToBeUnique(column_list=key),
            column=", ".join(key),
        ),
        _known(schema.ITEM_ID, "items"),
        _known(schema.USER_ID, "users"),
    ]
    if low is not None or high is not None:
        expectation = gxe.ExpectColumnValuesToBeBetween(
            column=schema.VALUE, min_value=low, max_value=high
        )
        checks.append(named("events.value.range", between(low, high), expectation))
    return checks


def _items(config: ValidationConfig) -> list[Named]:
    length = (config.min_text_length, config.max_text_length)
    return [
        *_common("items", config.min_items, config.max_items),
        _unique("items", schema.ITEM_ID),
        _no_float("items", schema.ITEM_ID),
        _length("items", schema.ITEM_ID, 1, None),
        _length("items", schema.TITLE, 1, None),
        _length("items", schema.TEXT, *length),
        *(
            named(
                f"items.{column}.encoding",
                f"at most {config.max_mojibake_share:.2%} look read in a wrong encoding",
                gxe.ExpectColumnValuesToNotMatchRegex(
                    column=column, regex=_MOJIBAKE, mostly=1 - config.max_mojibake_share
                ),
            )
            for column in (schema.TITLE, schema.TEXT)
        ),
    ]


def _users(config: ValidationConfig) -> list[Named]:
    return [
        *_common("users", config.min_users, config.max_users),
        _unique("users", schema.USER_ID),
        _no_float("users", schema.USER_ID),
        _length("users", schema.USER_ID, 1, None),
    ]


def _common(table: str, min_rows: int, max_rows: int | None) -> Iterable[Named]:
    """Row count; then each column of the schema: there, without nulls, of its type."""
    yield named(
        f"{table}.rows",
        between(min_rows, max_rows),
        gxe.ExpectTableRowCountToBeBetween(min_value=min_rows, max_value=max_rows),
        column="",
    )
    for field in schema.TABLES[table]:
        column = field.name
        yield named(f"{table}.{column}.exists", "a column", gxe.ExpectColumnToExist(column=column))
        yield named(
            f"{table}.{column}.not_null",
            "no nulls",
            gxe.ExpectColumnValuesToNotBeNull(column=column),
        )
        kind = "timestamp" if column == schema.TIMESTAMP else _TYPES.get(str(field.type))
        if kind is not None:
            expectation = ExpectColumnToHaveType(column=column, type_=kind)
            yield named(f"{table}.{column}.type", kind, expectation)


def _personal(config: ValidationConfig, table: str, rows: ir.Table) -> list[Named]:
    """Ids of events are those of items and users, or unknown: they are not looked at again."""
    again = (schema.USER_ID, schema.ITEM_ID) if table == "events" else ()
    columns = [
        name
        for name in personal.text_columns(rows)
        if name not in again and f"{table}.{name}" not in config.personal.ignore_columns
    ]
    words = {"email": "e-mail address", "phone": "phone number", "card": "payment card number"}
    return [
        Named(
            f"{table}.no_{kind}",
            ", ".join(columns),
            f"no {words[kind]} in any text",
            expectation(columns=columns),
        )
        for kind, expectation in personal.EXPECTATIONS.items()
        if columns and getattr(config.personal, kind)
    ]


def _measure(measure: Measure) -> Named:
    expectation = ExpectMeasureToBeBetween(
        measure=measure.name, min_value=measure.low, max_value=measure.high
    )
    limit = between(measure.low, measure.high)
    return Named(measure.name, "", limit, expectation, measure.severity)


def _known(column: str, other: str) -> Named:
    expectation = ExpectColumnValuesToBeInOtherTable(column=column, other=other)
    return named(f"events.{column}.known", f"in {other}.{column}", expectation)


def _unique(table: str, column: str) -> Named:
    expectation = gxe.ExpectColumnValuesToBeUnique(column=column)
    return named(f"{table}.{column}.unique", "no value twice", expectation)


def _no_float(table: str, column: str) -> Named:
    expectation = gxe.ExpectColumnValuesToNotMatchRegex(column=column, regex=_FLOAT)
    return named(f"{table}.{column}.not_float", "no id that became a float: 123.0", expectation)


def _length(table: str, column: str, low: int, high: int | None) -> Named:
    expectation = gxe.ExpectColumnValueLengthsToBeBetween(
        column=column, min_value=low, max_value=high
    )
    return named(f"{table}.{column}.length", f"{between(low, high)} characters", expectation)


def _naive(moment: datetime) -> datetime:
    """UTC without a zone, as the engine gives times: GX compares no times with zones."""
    return moment.astimezone(UTC).replace(tzinfo=None)
