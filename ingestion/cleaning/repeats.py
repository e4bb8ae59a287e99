"""Rows that say again what an earlier row said: exact duplicates, and candidates for repeats.

Sorting a large table to find the few rows that repeat is what costs. So rows are grouped by a
hash of their key first, which needs no sort, and the exact window runs over the rows of those
hashes alone that occur more than once. Unequal keys of one hash meet there and part again: the
result is exact whatever the hash.
"""

from collections.abc import Sequence
from typing import cast

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import REASON, Rule
from ingestion.engines.base import Keep
from recommender import schema

_EVENT = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.EVENT_TYPE, schema.VALUE)
_HASH, _REPETITION = "__hash", "__repetition"  # columns of a source that ride along have any name


def duplicate_rows(name: str, key: Sequence[str] | None, reason: str) -> Rule:
    """Rows whose `key` an earlier row has; the first by position stays.

    Args:
        name: the rule's.
        key: columns, nulls being equal; None = all but position and reason.
    """

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        whole = key or [n for n in usable.columns if n not in (schema.POSITION, REASON)]
        # Rows that are equal in all columns are so in ours: long riders need no hash.
        hashed = [column for column in whole if column in _EVENT] or whole
        rows = candidates(usable, hashed, name, keep)
        first = ibis.window(group_by=list(whole), order_by=schema.POSITION)
        ranked = rows.mutate(**{_REPETITION: ibis.row_number().over(first)})
        return ranked.filter(ranked[_REPETITION] > 0).select(
            schema.POSITION, **{REASON: ibis.literal(reason)}
        )

    return Rule(name, drops)


def candidates(usable: ir.Table, key: Sequence[str], name: str, keep: Keep) -> ir.Table:
    """All rows of `usable` whose `key` is not unique, and few besides."""
    hashed = _hash(usable, key)
    often = hashed.group_by(_HASH).agg(rows=hashed.count())
    often = keep(f"hashes_of_{name}", often.filter(often.rows > 1).select(_HASH))
    return hashed.semi_join(often, _HASH).drop(_HASH)


def _hash(rows: ir.Table, key: Sequence[str]) -> ir.Table:
    columns = {column: rows[column] for column in key}
    value = ibis.struct(columns) if len(columns) > 1 else columns[key[0]]
    return rows.mutate(**{_HASH: cast(ir.Column, value).hash()})
