"""Texts as numbers, by one rule for every engine."""

import ibis
import ibis.expr.types as ir

# Engines read more than this as a number, each something else: 1_000, 1d, 0x1p3.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def number(column: ir.Value) -> ir.Value:
    """float64; null where it is no finite number."""
    kind = column.type()
    if kind.is_integer() or kind.is_decimal():
        return column.cast("float64")
    if kind.is_floating():
        value = column.cast("float64")
    else:
        text = column.cast("string").strip()
        value = text.re_search(_NUMBER).ifelse(text, ibis.null("string")).try_cast("float64")
    return (value.isnan() | value.isinf()).ifelse(ibis.null("float64"), value)
