"""A live event as it comes: one JSON object a line.

    {"user_id": "u1", "item_id": "i9", "timestamp": "2026-11-27T10:00:00Z", "event_type": "view"}

`rank` (from 0) orders a user's events of the very same time, as the source has them; without it
they are in the order of their item ids. Other keys are read by filters alone.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from feature_repo.live.times import NoTime, TimeRule, time_us
from recommender.schema import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

RANK = "rank"
MAX_LINE = 1024 * 1024  # bytes
_MAX_RANK = 2**63 - 1


class Event(NamedTuple):
    user_id: str
    item_id: str
    time_us: int  # microseconds since 1970, UTC
    rank: int
    fields: Mapping[str, Any]  # the whole object, as it came


class NotAnEvent(ValueError):
    """A line that cannot be used; the message is the reason.

    Attributes:
        fields: the object, where it is one.
    """

    def __init__(self, reason: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.fields = fields


def read_event(line: bytes, times: TimeRule) -> Event:
    """The event of one line.

    Raises:
        NotAnEvent: saying why.
    """
    if len(line) > MAX_LINE:
        raise NotAnEvent(f"the line is longer than {MAX_LINE:,} bytes")
    try:
        fields = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        what = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        raise NotAnEvent(f"not {what}") from error
    if not isinstance(fields, dict):
        raise NotAnEvent("not a JSON object")
    return event_of(fields, times)


def event_of(fields: Mapping[str, Any], times: TimeRule) -> Event:
    """The event that an object tells.

    Raises:
        NotAnEvent: saying why.
    """
    user_id, item_id = (_id(fields, name) for name in (USER_ID, ITEM_ID))
    if TIMESTAMP not in fields:
        raise NotAnEvent(f"missing {TIMESTAMP}", fields)
    try:
        moment = time_us(fields[TIMESTAMP], times)
    except NoTime as error:
        raise NotAnEvent(str(error), fields) from error
    event_type = fields.get(EVENT_TYPE)
    if event_type is not None and not (isinstance(event_type, str) and event_type.strip()):
        raise NotAnEvent(f"{EVENT_TYPE} is no text", fields)
    return Event(user_id, item_id, moment, _rank(fields), fields)


def _id(fields: Mapping[str, Any], name: str) -> str:
    """Without blanks around it, as ingestion has it; a whole number is its digits."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise NotAnEvent(f"missing {name}", fields)
    if not isinstance(value, str):
        raise NotAnEvent(f"{name} is neither a text nor a whole number", fields)
    if "\0" in value or not is_text(value):
        raise NotAnEvent(f"{name} has characters that no text may have", fields)
    return value.strip()


def is_text(value: str) -> bool:
    """Whether it can be written as UTF-8; what JSON says by escapes need not."""
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _rank(fields: Mapping[str, Any]) -> int:
    rank = fields.get(RANK)
    if rank is None:
        return 0
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 <= rank <= _MAX_RANK:
        raise NotAnEvent(f"{RANK} is no whole number from 0", fields)
    return rank
