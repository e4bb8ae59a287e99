"""`source.items.text`, a template such as "{title} ({year})", filled in by the engine."""

import math
from string import Formatter

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ingestion.errors import IngestError


@ibis.udf.scalar.python(signature=(("float64",), "string"))
def number_text(number: float | None) -> str | None:
    """As Python writes it, for engines write 1e7 each in its own way; nothing if it is none."""
    return None if number is None else "" if math.isnan(number) else str(number)


def filled(template: str, items: ir.Table) -> ir.StringValue:
    """The template with the columns of each item; what an item lacks is left out.

    Lists are joined by ", ". A format after a colon is Python's for texts: "{released:.4}" is
    the first four characters.

    Raises:
        IngestError: Python knows no such format.
    """
    parts: list[ir.StringValue] = []
    for index, (text, column, form, conversion) in enumerate(Formatter().parse(template)):
        if text:
            parts.append(ibis.literal(text))
        if column:
            value = _readable(items[column]).fill_null("")
            if form or conversion:
                value = _formatted(value, _field(template, column, form, conversion), index)
            parts.append(value)
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _readable(column: ir.Value) -> ir.StringValue:
    kind = column.type()
    if kind.is_string():
        return column
    if isinstance(column, ir.ArrayValue):
        return column.cast("array<string>").join(", ")
    if kind.is_floating():
        return number_text(column.cast(dt.float64))
    if isinstance(column, ir.TimestampValue):
        return column.strftime("%Y-%m-%d %H:%M:%S")
    return column.cast("string")


def _field(template: str, column: str, form: str | None, conversion: str | None) -> str:
    field = "{0" + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
    try:
        field.format("")
    except (ValueError, LookupError) as error:
        raise IngestError(
            f"items: source.items.text '{template}' formats column '{column}' by "
            f"'{form or conversion}', which is no format of Python's for texts ({error}); "
            f"write '{{{column}}}', or such as '{{{column}:.4}}' for its first four characters"
        ) from error
    return field


def _formatted(value: ir.StringValue, field: str, index: int) -> ir.StringValue:
    def formatted(text: str | None) -> str | None:
        return None if text is None else field.format(text)

    # Engines know a function by its name: one a place in the template.
    udf = ibis.udf.scalar.python(
        formatted, name=f"formatted_{index}", signature=((dt.string,), dt.string)
    )
    return udf(value)
