"""Raw tables to the tables of recommender.schema, as Ibis expressions.

Every function gives the table with its final columns plus `reason`: why a row cannot be used,
null where it can. Nothing here names a backend, so the same mapping runs where Ibis does.
"""

import re
from collections.abc import Iterable
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ingestion.errors import IngestError
from ingestion.reading.raw import RAW_MALFORMED, RAW_POSITION, RawTable
from ingestion.sources import EventsSource, ItemsSource, template_columns
from recommender import schema
from recommender.text import clean_text

REASON = "reason"
UTC = dt.Timestamp(timezone="UTC", scale=6)
_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}
# Outside these years a number is hardly a time: most often the unit is wrong.
_EARLIEST_US, _LATEST_US = -2_208_988_800_000_000, 7_258_118_400_000_000  # 1900 and 2200
_TRAILING_ARTICLE = re.compile(r"^(.+?), (The|A|An|Les?|La|L'|Il|El|Los|Las|Der|Die|Das)(?= \(|$)")
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")


@ibis.udf.scalar.builtin(signature=((dt.int64,), UTC))
def make_timestamptz(us: int) -> Any:
    """Microseconds since 1970 as a timestamp."""


def events(raw: RawTable, table: ir.Table, items: ir.Table, users: ir.Table | None) -> ir.Table:
    """Events that refer to `items` (and `users`); exact duplicates are found by `duplicates`."""
    source = raw.source
    assert isinstance(source, EventsSource)
    ours = _mapped(raw, table)
    user_id, item_id = _text(ours[schema.USER_ID]), _text(ours[schema.ITEM_ID])
    timestamp = _timestamp(ours[schema.TIMESTAMP], source.time_unit)
    event_type = (
        _text(ours[schema.EVENT_TYPE])
        if schema.EVENT_TYPE in ours
        else ibis.literal(source.event_type)
    )
    value = (
        _number(ours[schema.VALUE]) if schema.VALUE in ours else ibis.literal(float(source.value))
    )
    checks = [
        (user_id.isnull(), "missing user_id"),
        (item_id.isnull(), "missing item_id"),
        (timestamp.isnull(), "unparseable timestamp"),
        (event_type.isnull(), "missing event_type"),
        (value.isnull(), "value is not a number"),
        (item_id.notin(items[schema.ITEM_ID]), "unknown item"),
    ]
    if users is not None:
        checks.append((user_id.notin(users[schema.USER_ID]), "unknown user"))
    return table.select(
        **{
            schema.USER_ID: user_id,
            schema.ITEM_ID: item_id,
            schema.TIMESTAMP: timestamp,
            schema.EVENT_TYPE: event_type,
            schema.VALUE: value,
            schema.POSITION: table[RAW_POSITION],
            **_riders(raw, table, schema.EVENTS.names),
            REASON: _reason(table, checks),
        }
    )


def items(raw: RawTable, table: ir.Table) -> ir.Table:
    """Items before their texts are cleaned (`clean_items`); `text` is still null."""
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
            REASON: _reason(table, [(item_id.isnull(), "missing item_id")]),
        }
    )
    known = [name for name in mapped.columns if name not in (schema.POSITION, REASON)]
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
            REASON: _reason(table, [(user_id.isnull(), "missing user_id")]),
        }
    )


def duplicates(usable: ir.Table, key: Iterable[str]) -> ir.Table:
    """Positions of the rows of `usable` that repeat an earlier row's `key`."""
    first = ibis.window(group_by=list(key), order_by=schema.POSITION)
    ranked = usable.mutate(repetition=ibis.row_number().over(first))
    return ranked.filter(ranked.repetition > 0).select(schema.POSITION)


def clean_items(rows: list[dict[str, Any]], source: ItemsSource) -> list[dict[str, Any]]:
    """(position, title, text, reason) of items, cleaned; the one place that loops over rows."""
    columns = template_columns(source.text)
    cleaned = []
    for row in rows:
        title = clean_text(row[schema.TITLE] or "")
        if source.title_article:
            title = _TRAILING_ARTICLE.sub(_article_first, title)
        values = {name: _readable(row[name]) for name in columns} | {schema.TITLE: title}
        text = clean_text(_EMPTY_BRACKETS.sub(" ", source.text.format_map(values)))
        reason = None
        if not title:
            reason = "missing title"
        # What only the template says (brackets, a full stop) is no text.
        elif not text or not any(clean_text(values[name]) for name in columns):
            reason = "no text"
        cleaned.append(
            {schema.POSITION: row[schema.POSITION], "title": title, "text": text, REASON: reason}
        )
    return cleaned


def _article_first(match: re.Match[str]) -> str:
    title, article = match.groups()
    return f"{article}{title}" if article.endswith("'") else f"{article} {title}"


def _readable(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def _reason(table: ir.Table, checks: list[tuple[Any, str]]) -> ir.Value:
    return ibis.cases((table[RAW_MALFORMED].notnull(), table[RAW_MALFORMED]), *checks)


def _text(column: ir.Value) -> ir.StringValue:
    """Trimmed; blank is null."""
    return column.cast("string").strip().nullif("")


def _number(column: ir.Value) -> ir.Value:
    """float64; null where it is no finite number."""
    number = column.cast("string").try_cast("float64")
    return ibis.ifelse(number.isnan() | number.isinf(), ibis.null("float64"), number)


def _timestamp(column: ir.Value, unit: str) -> ir.Value:
    """UTC; null where it is no time between 1900 and 2200."""
    earliest, latest = (
        make_timestamptz(ibis.literal(limit, "int64")) for limit in (_EARLIEST_US, _LATEST_US)
    )
    if unit == "iso":
        moment = column.cast("string").try_cast(UTC)
        return ibis.ifelse(moment.between(earliest, latest), moment, ibis.null(UTC))
    micros = column.cast("string").try_cast("float64") * _UNITS[unit]
    # Also keeps NaN and infinity, which are above every number, from the cast.
    usable = ibis.ifelse(micros.between(_EARLIEST_US, _LATEST_US), micros, ibis.null("float64"))
    return make_timestamptz(usable.round().cast("int64"))


def _categories(column: ir.Value | None, separator: str | None) -> ir.Value:
    """list[str], trimmed, without blanks; empty where there is none."""
    nothing = ibis.literal([], type="array<string>")
    if column is None:
        return nothing
    if isinstance(column, ir.ArrayValue):
        parts = column.cast("array<string>")
    else:
        text = column.cast("string")
        parts = text.split(separator) if separator else ibis.array([text])
    parts = parts.map(lambda part: part.strip()).filter(lambda part: part != "")
    return ibis.coalesce(parts, nothing)
