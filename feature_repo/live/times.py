"""The time of a live event: ISO 8601 with a zone, or a number since 1970."""

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from feature_repo.stores.layout import to_us

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
# Outside these years a number is hardly a time, as in ingestion: most often the unit is wrong.
_EARLIEST_US, _LATEST_US = -2_208_988_800_000_000, 7_258_118_400_000_000  # 1900 and 2200
_NUMBER = re.compile(r"[+-]?[0-9]{1,25}(\.[0-9]{0,25})?")


class NoTime(ValueError):
    """It cannot be read as a time; the message says why."""


class TimeRule(NamedTuple):
    """How an event's times are written."""

    unit: str = "s"  # of numbers: s, ms or us
    zone: tzinfo | None = None  # of times without one; None: these are refused


def time_us(value: object, rule: TimeRule) -> int:
    """Microseconds since 1970, UTC.

    Raises:
        NoTime: saying what is wrong.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise NoTime("timestamp is neither a text nor a number")
    text = str(value).strip()
    if not text:
        raise NoTime("timestamp is blank")
    found = _of_number(text, rule) if _NUMBER.fullmatch(text) else _of_text(value, text, rule)
    if not _EARLIEST_US <= found <= _LATEST_US:
        raise NoTime(
            f"timestamp is not between 1900 and 2200 (numbers are taken as {rule.unit} since 1970)"
        )
    return found


def _of_number(text: str, rule: TimeRule) -> int:
    factor = UNITS[rule.unit]
    if "." not in text:
        return int(text) * factor
    return round(float(text) * factor)


def _of_text(value: object, text: str, rule: TimeRule) -> int:
    if isinstance(value, float):  # 1e9, nan
        if not math.isfinite(value):
            raise NoTime("timestamp is no number")
        return round(value * UNITS[rule.unit])
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            if rule.zone is None:
                raise NoTime(
                    "timestamp has no time zone: write one (2026-11-27T10:00:00Z, …+01:00), or "
                    "say --timezone"
                )
            moment = _in_zone(moment, rule.zone)
        return to_us(moment.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        if isinstance(error, NoTime):
            raise
        raise NoTime("timestamp is no time: ISO 8601 or a number is") from error


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """A clock's time that was there once.

    Raises:
        NoTime: clocks were put forward over it, or back so that it was there twice.
    """
    first, second = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        there = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment
        how = "was there twice" if there else "was skipped"
        raise NoTime(f"timestamp {how} in that time zone, as clocks changed: write the offset")
    return first


def shown(us: int) -> str:
    """As people read it: 2026-11-27 10:00:00Z."""
    moment = datetime(1970, 1, 1) + timedelta(microseconds=us)
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
