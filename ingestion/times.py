"""Times of any source as UTC: numbers since 1970, ISO 8601, patterns, columns of times."""

import ibis
import ibis.expr.types as ir

from ingestion.engines.base import Engine
from ingestion.engines.functions import UTC
from ingestion.numbers import number
from ingestion.sources import EventsSource

_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
# Outside these years a number is hardly a time: most often the unit is wrong.
_EARLIEST_US, _LATEST_US = -2_208_988_800_000_000, 7_258_118_400_000_000  # 1900 and 2200
# Engines take more than this for a time, and not the same.
_ISO = (
    r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
    r"( ?(Z|z|UTC|[+-]\d{2}(:?\d{2})?))?)?$"
)
_HOURS_ONLY, _NO_COLON = r"([+-]\d{2})$", r"([+-]\d{2})(\d{2})$"


def timestamp(column: ir.Value, source: EventsSource, engine: Engine) -> ir.Value:
    """UTC in microseconds; null where it is no time between 1900 and 2200."""
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return _within(column.cast(UTC), engine)
    if source.time_format is not None:
        text = column.cast("string").strip()
        return _within(engine.parsed_time(text, source.time_format), engine)
    if source.time_unit == "iso":
        return _within(_iso(column.cast("string").strip()), engine)
    if kind.is_integer() and source.time_unit in ("us", "ns"):
        # A float has no room for today's nanoseconds.
        micros = column.cast("int64") if source.time_unit == "us" else column.cast("int64") // 1000
    else:
        micros = number(column) * _UNITS[source.time_unit]
    inside = micros.between(_EARLIEST_US, _LATEST_US)
    usable = inside.ifelse(micros, ibis.null(micros.type()))
    return engine.moment(usable.round().cast("int64"))


def _iso(text: ir.StringValue) -> ir.Value:
    day_only = text.length() == 10  # whose last two digits are no zone
    zoned = text.re_replace(_NO_COLON, r"\1:\2").re_replace(_HOURS_ONLY, r"\1:00")
    plain = day_only.ifelse(text, zoned).replace(",", ".")
    plain = plain.upper().replace(" UTC", "Z").replace("UTC", "Z").replace(" Z", "Z")
    return text.re_search(_ISO).ifelse(plain, ibis.null("string")).try_cast(UTC)


def _within(moment: ir.Value, engine: Engine) -> ir.Value:
    earliest, latest = (
        engine.moment(ibis.literal(limit, "int64")) for limit in (_EARLIEST_US, _LATEST_US)
    )
    return moment.between(earliest, latest).ifelse(moment, ibis.null(UTC))
