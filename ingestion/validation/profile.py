"""What a snapshot looks like in numbers: a few kilobytes that the next one is compared with.

Everything is measured by the engine, by a handful of grouped queries; bins are fixed, so that two
profiles can be compared without either snapshot.
"""

from collections.abc import Mapping
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.validation.gx_ibis.masking import masked
from recommender import schema

VERSION = 1
_CHECKSUM = 2_147_483_629  # a prime below 2**31: sums of remainders stay far below 2**63
_TOP = 500  # types and categories that are kept by name, the most frequent
_SKETCH = 256  # ids in a sketch: the smallest hashes
_DECILES = 10
_FORMS = (
    ("digits", r"^[0-9]+$"),
    ("decimal number", r"^-?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?$"),
    ("uuid", r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
    ("hex", r"^[0-9a-f]{16,}$"),
    ("letters", r"^[A-Za-z]+$"),
)


def profile(tables: Mapping[str, ir.Table], engine: str) -> dict[str, Any]:
    """Volume, null shares, histograms, forms and sketches of ids.

    Args:
        tables: events, items and users of a snapshot; columns may be missing.
        engine: its name, as hashes of two engines are not comparable.
    """
    nulls = {name: _null_shares(table) for name, table in tables.items()}
    found: dict[str, Any] = {
        "version": VERSION,
        "engine": engine,
        "rows": {name: _one(table.count()) for name, table in tables.items()},
        "nulls": nulls,
        "forms": {},
        "ids": {},
    }
    for name, column in (("items", schema.ITEM_ID), ("users", schema.USER_ID)):
        if column in tables[name].columns:
            ids = tables[name][column].cast("string")
            found["forms"][f"{name}.{column}"] = _forms(tables[name], ids)
            hashes = tables[name].select(key=ids.hash()).order_by("key").limit(_SKETCH)
            found["ids"][name] = [row["key"] for row in _rows(hashes)]
    return found | _events(tables["events"]) | {"categories": _categories(tables["items"])}


def _events(table: ir.Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = table.columns
    if schema.TIMESTAMP in columns and table[schema.TIMESTAMP].type().is_timestamp():
        found |= _times(table)
    if schema.EVENT_TYPE in columns:
        found["types"] = _counts(table, table[schema.EVENT_TYPE].cast("string"))
    if schema.VALUE in columns and table[schema.VALUE].type().is_numeric():
        found["values"] = _counts(table, _bin(table[schema.VALUE]).cast("string"))
    if schema.ITEM_ID in columns:
        found["popularity"] = _popularity(table)
    return found


def _times(table: ir.Table) -> dict[str, Any]:
    """Events by hour of the day, and by day with a sum of hashes that two copies share."""
    time = table[schema.TIMESTAMP]
    keys = [name for name in (schema.USER_ID, schema.ITEM_ID) if name in table.columns]
    key = ibis.struct({name: table[name] for name in keys}).hash() if keys else ibis.literal(0)
    timed = table.select(
        day=time.date(), hour=time.hour(), at=time, key=(key % _CHECKSUM).cast("int64")
    )
    grouped = timed.group_by("day", "hour").agg(
        events=timed.count(),
        checksum=timed.key.sum(),
        oldest=timed["at"].min(),
        newest=timed["at"].max(),
    )
    rows = [row for row in _rows(grouped) if row["day"] is not None]
    hours, days = [0] * 24, dict[str, list[int]]()
    for row in sorted(rows, key=lambda row: (row["day"], row["hour"])):
        hours[row["hour"]] += row["events"]
        day = days.setdefault(row["day"].isoformat(), [0, 0])
        day[0] += row["events"]
        day[1] += row["checksum"]
    return {
        "oldest": str(min((row["oldest"] for row in rows), default="")),
        "newest": str(max((row["newest"] for row in rows), default="")),
        "hours": {str(hour): events for hour, events in enumerate(hours)},
        "days": days,
    }


def _bin(value: ir.Value) -> ir.Value:
    """Eighths of an octave of 1 + |value|, with its sign: alike for ratings, seconds and prices."""
    octaves = ((value.abs() + 1).log2() * 8).round()
    return (octaves * value.sign()).cast("int64")


def _popularity(table: ir.Table) -> dict[str, int]:
    """Events by the items' decile of popularity, from the rarest items to the most popular."""
    items = table.group_by(schema.ITEM_ID).agg(events=table.count())
    counts = items.group_by("events").agg(items=items.count()).order_by("events")
    rows = _rows(counts)
    total, ranked = sum(row["items"] for row in rows), 0
    deciles = {str(decile): 0 for decile in range(_DECILES)}
    for row in rows:
        left = row["items"]
        while left:
            decile = ranked * _DECILES // total
            last = -(-(decile + 1) * total // _DECILES)  # first rank of the next decile
            part = min(left, last - ranked)
            deciles[str(decile)] += part * row["events"]
            ranked, left = ranked + part, left - part
    return deciles


def _categories(items: ir.Table) -> dict[str, int]:
    if schema.CATEGORIES not in items.columns or not items[schema.CATEGORIES].type().is_array():
        return {}
    each = items.select(category=items[schema.CATEGORIES].unnest())
    return _counts(each, each.category.cast("string"))


def _forms(table: ir.Table, ids: ir.Value) -> dict[str, int]:
    form = ibis.cases(*((ids.re_search(pattern), name) for name, pattern in _FORMS), else_="other")
    return _counts(table, form)


def _null_shares(table: ir.Table) -> dict[str, float]:
    """Of every column: nulls, and for texts and lists, empty ones."""
    if not table.columns:
        return {}
    scalars = {f"c{at}": _empty(table[name]).mean() for at, name in enumerate(table.columns)}
    (row,) = _rows(table.aggregate(**scalars))
    return {name: row[f"c{at}"] or 0.0 for at, name in enumerate(table.columns)}


def _empty(column: Any) -> Any:
    missing = column.isnull()
    if column.type().is_string():
        missing = missing | (column == "").fill_null(False)
    elif column.type().is_array():
        missing = missing | (column.length() == 0).fill_null(False)
    return missing.cast("int64")


def _counts(table: ir.Table, key: ir.Value) -> dict[str, int]:
    keyed = table.select(key=key)
    counts = keyed.group_by("key").agg(rows=keyed.count())
    top = counts.order_by(ibis.desc("rows"), "key").limit(_TOP)
    found: dict[str, int] = {}
    for row in _rows(top):
        name = masked(str(row["key"]))  # a profile is kept: no-one's address in it
        found[name] = found.get(name, 0) + row["rows"]
    return found


def _one(scalar: ir.Scalar) -> Any:
    return scalar.to_pyarrow().as_py()


def _rows(table: ir.Table) -> list[dict[str, Any]]:
    return list(table.to_pyarrow().to_pylist())
