"""Times of any source as UTC: numbers since 1970, ISO 8601, patterns, columns of times."""

import ibis
import ibis.expr.types as ir

from ingestion.engines.base import Engine
from ingestion.numbers import number
from ingestion.patterns import parsed
from ingestion.sources import EventsSource
from recommender.engines.functions import UTC

_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
# Outside these years a number is hardly a time: most often the unit is wrong.
_EARLIEST_US, _LATEST_US = -2_208_988_800_000_000, 7_258_118_400_000_000  # 1900 and 2200
# Engines take more than this for a time, and not the same. Groups: day, time, seconds, fraction;
# zone, its hours, its minutes.
_ISO = (
    r"^(\d{4}-\d{2}-\d{2})(?:[T ]((?:[01]\d|2[0-3]):\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    r" ?(Z|z|UTC|([+-]\d{2})(?::?(\d{2}))?)?)?$"
)


def timestamp(column: ir.Value, source: EventsSource, engine: Engine) -> ir.Value:
    """UTC in microseconds; null where it is no time between 1900 and 2200."""
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return _within(column.cast(UTC), engine)
    if source.time_format is not None:
        text = column.cast("string").strip()
        return _within(parsed(text, source.time_format), engine)
    if source.time_unit == "iso":
        return _within(_iso(column.cast("string").strip()), engine)
    if kind.is_integer() and source.time_unit in ("us", "ns"):
        # A float has no room for today's nanoseconds.
        whole = column.try_cast("int64")  # null of what only unsigned numbers reach
        micros = whole if source.time_unit == "us" else whole // 1000
    else:
        micros = number(column) * _UNITS[source.time_unit]
    inside = micros.between(_EARLIEST_US, _LATEST_US)
    usable = inside.ifelse(micros, ibis.null(micros.type()))
    return engine.moment(usable.round().cast("int64"))


def _iso(text: ir.StringValue) -> ir.Value:
    """Put together anew, in the one form that every engine reads."""
    day, time, seconds, fraction, _, hours, minutes = (
        ibis.coalesce(text.re_extract(_ISO, group), "") for group in range(1, 8)
    )
    parts = [day, " ", _or(time, "00:00"), ":", _or(seconds, "00"), "."]
    parts += [_or(fraction[:6], "0"), _or(hours, "+00"), ":", _or(minutes, "00")]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return text.re_search(_ISO).ifelse(whole, ibis.null("string")).try_cast(UTC)


def _or(text: ir.StringValue, other: str) -> ir.StringValue:
    return (text == "").ifelse(ibis.literal(other), text)


def _within(moment: ir.Value, engine: Engine) -> ir.Value:
    earliest, latest = (
        engine.moment(ibis.literal(limit, "int64")) for limit in (_EARLIEST_US, _LATEST_US)
    )
    return moment.between(earliest, latest).ifelse(moment, ibis.null(UTC))
