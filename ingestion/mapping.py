"""Raw tables to the tables of recommender.schema, as Ibis expressions.

Every function gives the table with its final columns plus `reason`: why a row cannot be used,
null where it can. Nothing here names a backend, so the same mapping runs where Ibis does.
"""

import re
from collections.abc import Iterable
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion import filters
from ingestion.cleaning.near_duplicates import FIRST_ITEM_ID
from ingestion.cleaning.rule import REASON
from ingestion.engines.base import Engine
from ingestion.errors import IngestError
from ingestion.numbers import number
from ingestion.reading.raw import RAW_MALFORMED, RAW_POSITION, RawTable
from ingestion.sources import EventsSource, ItemsSource, template_columns
from ingestion.times import timestamp
from recommender import schema

_USER, _ITEM, _KNOWN_USER, _KNOWN_ITEM = "__user", "__item", "__known_user", "__known_item"


def events(
    engine: Engine, raw: RawTable, table: ir.Table, items: ir.Table, users: ir.Table | None
) -> ir.Table:
    """Events that refer to `items` (and `users`).

    Args:
        items: (item_id, first_item_id): the ids that events may name, and whose events they are:
            another's for an item that was merged into it.
        users: (user_id), or None for any.
    """
    source = raw.source
    assert isinstance(source, EventsSource)
    names = {_USER: schema.USER_ID, _ITEM: schema.ITEM_ID}
    mapped = _mapped(raw, table)
    table = table.mutate(**{name: _text(mapped[ours]) for name, ours in names.items()})
    table = _looked_up(table, _ITEM, items, schema.ITEM_ID, items[FIRST_ITEM_ID], _KNOWN_ITEM)
    if users is not None:
        known = users[schema.USER_ID]
        table = _looked_up(table, _USER, users, schema.USER_ID, known, _KNOWN_USER)
    ours = _mapped(raw, table)
    moment = timestamp(ours[schema.TIMESTAMP], source, engine)
    event_type = (
        _text(ours[schema.EVENT_TYPE])
        if schema.EVENT_TYPE in ours
        else ibis.literal(source.event_type)
    )
    value = number(ours[schema.VALUE]) if schema.VALUE in ours else ibis.literal(source.value)
    checks = [
        (table[_USER].isnull(), "missing user_id"),
        (table[_ITEM].isnull(), "missing item_id"),
        (moment.isnull(), "unparseable timestamp"),
        (event_type.isnull(), "missing event_type"),
        (value.isnull(), "value is not a number"),
        (table[_KNOWN_ITEM].isnull(), "unknown item"),
    ]
    if users is not None:
        checks.append((table[_KNOWN_USER].isnull(), "unknown user"))
    return table.select(
        **{
            schema.USER_ID: table[_USER],
            schema.ITEM_ID: table[_KNOWN_ITEM],
            schema.TIMESTAMP: moment,
            schema.EVENT_TYPE: event_type,
            schema.VALUE: _weighted(value, event_type, source.event_weights),
            schema.POSITION: table[RAW_POSITION],
            **_riders(raw, table, schema.EVENTS.names),
            REASON: _reason(raw, table, checks),
        }
    )


def _looked_up(
    table: ir.Table, column: str, other: ir.Table, key: str, value: ir.Value, name: str
) -> ir.Table:
    """`table` with `value` of the row of `other` whose `key` is `column`; null where none is."""
    found = other.select(**{f"{name}_key": other[key], name: value})
    return table.left_join(found, table[column] == found[f"{name}_key"]).drop(f"{name}_key")


def _weighted(value: ir.Value, event_type: ir.Value, weights: dict[str, float]) -> ir.Value:
    if not weights:
        return value
    cases = [(event_type == name, ibis.literal(weight)) for name, weight in weights.items()]
    return value * ibis.cases(*cases, else_=1.0)


def items(raw: RawTable, table: ir.Table) -> ir.Table:
    """Items before their texts are cleaned; `text` is still null."""
    source = raw.source
    assert isinstance(source, ItemsSource)
    ours = _mapped(raw, table)
    item_id = _text(ours[schema.ITEM_ID])
    mapped = table.select(
        **{
            schema.ITEM_ID: item_id,
            schema.TITLE: _text(ours[schema.TITLE]),
            schema.TEXT: ibis.null("string"),
            schema.CATEGORIES: _categories(ours.get(schema.CATEGORIES), source.category_separator),
            **_riders(raw, table, [*schema.ITEMS.names, schema.POSITION]),
            schema.POSITION: table[RAW_POSITION],
            REASON: _reason(raw, table, [(item_id.isnull(), "missing item_id")]),
        }
    )
    # `text` is what the template makes; a source's own is source_text.
    no_source = (schema.TEXT, schema.POSITION, REASON)
    known = [name for name in mapped.columns if name not in no_source]
    for name in template_columns(source.text):
        if name not in known:
            raise IngestError(
                f"items: source.items.text names '{{{name}}}', but the items have "
                f"{', '.join(known)}; correct the template, or map that column"
            )
    return mapped


def users(raw: RawTable, table: ir.Table) -> ir.Table:
    user_id = _text(_mapped(raw, table)[schema.USER_ID])
    return table.select(
        **{
            schema.USER_ID: user_id,
            **_riders(raw, table, [*schema.USERS.names, schema.POSITION]),
            schema.POSITION: table[RAW_POSITION],
            REASON: _reason(raw, table, [(user_id.isnull(), "missing user_id")]),
        }
    )


def _mapped(raw: RawTable, table: ir.Table) -> dict[str, ir.Value]:
    return {ours: table[theirs] for ours, theirs in raw.source.columns.items()}


def _riders(raw: RawTable, table: ir.Table, taken: Iterable[str]) -> dict[str, ir.Value]:
    """Columns beyond ours, by their name in the snapshot; `source_` avoids one of our names."""
    used = {name.casefold() for name in [*taken, REASON]}
    renamed = {theirs: ours for ours, theirs in raw.source.columns.items() if ours not in taken}
    core = {theirs for ours, theirs in raw.source.columns.items() if ours in taken}
    riders: dict[str, ir.Value] = {}
    for theirs in raw.columns:
        if theirs in core and theirs not in renamed:
            continue
        name = renamed.get(theirs, theirs)
        while name.casefold() in used:
            name = f"source_{name}"
        used.add(name.casefold())
        riders[name] = table[theirs]
    return riders


def _reason(raw: RawTable, table: ir.Table, checks: list[tuple[Any, str]]) -> ir.Value:
    """Of several, the first: the line's own, a filter's, then those of what it lacks."""
    malformed = (table[RAW_MALFORMED].notnull(), table[RAW_MALFORMED])
    return ibis.cases(malformed, *filters.checks(raw.source.filters, table), *checks)


def _text(column: ir.Value) -> ir.StringValue:
    """Trimmed; blank is null."""
    return column.cast("string").strip().nullif("")


def _categories(column: ir.Value | None, separator: str | None) -> ir.Value:
    """list[str], trimmed, without blanks; empty where there is none."""
    nothing = ibis.literal([], type="array<string>")
    if column is None:  # Spark's empty array alone has no type that can be written
        return ibis.array([""]).filter(lambda part: part != "")
    if isinstance(column, ir.ArrayValue):
        parts = column.cast("array<string>")
    else:
        text = column.cast("string")
        parts = text.re_split(re.escape(separator)) if separator else ibis.array([text])
    parts = parts.map(lambda part: part.strip()).filter(lambda part: part != "")
    return ibis.coalesce(parts, nothing)
