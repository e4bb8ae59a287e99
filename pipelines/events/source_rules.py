"""What ingestion does to a source's rows, done to its live events: so that both tell the same.

Users become pseudonyms, erased users stay out, filters and limits of time hold. What ingestion
judges by many rows (bots, k-core, near duplicates, unknown items) is judged by the next run, whose
materialisation decides over what it covers.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from feature_repo.live.events import RANK, Event, is_text
from feature_repo.live.intake import Dropped
from feature_repo.live.outcomes import ERASED, FILTERED, TOO_OLD
from feature_repo.stores.layout import to_us
from ingestion.cleaning.settings import moment
from ingestion.cleaning.times import AFTER, BEFORE
from ingestion.privacy.erased import Erased, read_erased
from ingestion.privacy.pseudonyms import key_id, pseudonym, read_key
from ingestion.reading.settings import FilterConfig
from recommender.errors import KuberecError
from recommender.schema import EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

RETENTION = "older than the source's retention"
_KEPT = (USER_ID, ITEM_ID, TIMESTAMP, EVENT_TYPE, RANK)  # of a reject, where ids are protected
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NO_ERASED = Erased()


class SourceRules:
    """See feature_repo.live.intake.Rules.

    Args:
        origin: of feature_repo.live.origin; None: every event counts, as it is.
        state: folder of the source's ingestion, which knows who was erased.
        covered_until_us: time of the newest event of the data; retention counts from it.
        stored_ids: events name users as the store does: by pseudonyms, where it has them.
        event_types: others are left out; none given: none are.
    """

    def __init__(
        self,
        origin: Mapping[str, Any] | None,
        state: Path | None,
        covered_until_us: int | None = None,
        stored_ids: bool = False,
        event_types: tuple[str, ...] = (),
    ) -> None:
        origin = origin or {}
        self._state = state
        self._erased = _NO_ERASED
        self._erased_as_of: tuple[int, int] | None = None
        self._types = frozenset(event_types)
        events = origin.get("events") or {}
        self._default_type = events.get("event_type")
        ours = {theirs: name for name, theirs in (events.get("columns") or {}).items()}
        filters = [FilterConfig.model_validate(each) for each in events.get("filters") or []]
        self._filters = [(each, ours.get(each.column)) for each in filters]
        self._limits = _limits(origin, covered_until_us)
        self._key = None if stored_ids else _key(origin)
        self._protected = self._key is not None or bool(origin.get("user_key"))
        self._pseudonym: Callable[[str], str] = lru_cache(65_536)(self._stored_id)

    def admit(self, event: Event) -> Event | Dropped:
        if self._is_erased(event.user_id):
            return Dropped(ERASED, "")
        if self._types and self._type_of(event.fields) not in self._types:
            return Dropped(FILTERED, "another event_type")
        for each, ours in self._filters:
            value = event.fields.get(each.column, event.fields.get(ours or ""))
            if not matches(each, value):
                lacks = f" (the event has no {ours or each.column})" if value is None else ""
                return Dropped(FILTERED, each.name + lacks)
        for earliest_us, latest_us, outcome, reason in self._limits:
            if not earliest_us <= event.time_us <= latest_us:
                return Dropped(outcome, reason)
        return event._replace(user_id=self._pseudonym(event.user_id))

    def may_keep(self, fields: Mapping[str, Any] | None, line: bytes) -> Any:
        """Of a user who is erased, or cannot be told from others, nothing."""
        if fields is None:  # it may hold anything
            hidden = self._protected or self._read_erased().marks
            return None if hidden else line.decode("utf-8", errors="backslashreplace")
        user = _named(fields)
        if self._is_erased(user) if user is not None else self._read_erased().marks:
            return None
        if not self._protected:
            return dict(fields)
        kept = {name: fields[name] for name in _KEPT if name in fields}
        if self._key is not None:
            kept[USER_ID] = None if user is None else self._pseudonym(user)
        return kept

    def _type_of(self, fields: Mapping[str, Any]) -> Any:
        return fields.get(EVENT_TYPE) or self._default_type

    def _stored_id(self, user_id: str) -> str:
        return user_id if self._key is None else pseudonym(user_id, self._key)

    def _is_erased(self, user_id: str) -> bool:
        return user_id in self._read_erased()

    def _read_erased(self) -> Erased:
        """As of now: `kuberec erase-user` adds to it while a consumer runs."""
        if self._state is None:
            return _NO_ERASED
        try:
            status = (self._state / "erased.json").stat()
        except OSError:
            return _NO_ERASED
        as_of = status.st_ino, status.st_mtime_ns
        if as_of != self._erased_as_of:
            self._erased, self._erased_as_of = read_erased(self._state), as_of
        return self._erased


def _named(fields: Mapping[str, Any]) -> str | None:
    """The user of an event that is refused; None where it names none that could be one."""
    user = fields.get(USER_ID)
    if isinstance(user, int) and not isinstance(user, bool):
        return str(user)
    return user if isinstance(user, str) and is_text(user) else None


def matches(asked: FilterConfig, value: Any) -> bool:
    """ingestion.filters, of one value of JSON."""
    text = str(value).lower() if isinstance(value, bool) else str(value).strip()
    if value is None or text == "":
        return False
    if asked.not_null:
        return True
    if asked.equals is not None:
        return _is(value, text, asked.equals)
    if asked.one_of is not None:
        return any(_is(value, text, each) for each in asked.one_of)
    for limit, sign in ((asked.at_least, 1), (asked.at_most, -1)):
        if isinstance(limit, str):
            if (text < limit) if sign > 0 else (text > limit):
                return False
        elif limit is not None:
            number = _number(value, text)
            if number is None or sign * (number - limit) < 0:
                return False
    return True


def _is(value: Any, text: str, asked: bool | int | float | str) -> bool:
    if isinstance(asked, bool):
        return text.lower() == str(asked).lower()
    if isinstance(asked, str):
        return text == asked
    return _number(value, text) == float(asked)


def _number(value: Any, text: str) -> float | None:
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        return None
    found = float(text)
    return found if math.isfinite(found) else None


def _key(origin: Mapping[str, Any]) -> bytes | None:
    """Of the pseudonyms that the store has its users under.

    Raises:
        KuberecError: it is missing, or another one than the store's users were made with.
    """
    name, known = (origin.get("privacy") or {}).get("user_key_env"), origin.get("user_key")
    if name is None:
        if known is None:
            return None
        raise KuberecError(
            f"the feature store knows its users by pseudonyms (key {known}), and the config names "
            "no key: name source.privacy.user_key_env in it, or say --user-ids stored if events "
            "name users by their pseudonyms"
        )
    key = read_key(name)
    if known is not None and key_id(key) != known:
        raise KuberecError(
            f"environment variable {name} has key {key_id(key)}, and the feature store has its "
            f"users' pseudonyms under key {known}: a user would be two. Set the key of the run "
            "that was materialised, or run the pipeline with the new one"
        )
    return key


def _limits(
    origin: Mapping[str, Any], covered_until_us: int | None
) -> list[tuple[float, float, str, str]]:
    """(earliest, latest, outcome, reason) of an event's time."""
    cleaning, privacy = origin.get("cleaning") or {}, origin.get("privacy") or {}
    limits = []
    if (days := privacy.get("retention_days")) and covered_until_us is not None:
        window_us = round(days * 86_400) * 1_000_000
        limits.append((covered_until_us - window_us, math.inf, TOO_OLD, RETENTION))
    if cleaning.get("earliest"):
        limits.append((to_us(moment(cleaning["earliest"])), math.inf, FILTERED, BEFORE))
    if cleaning.get("latest"):
        limits.append((-math.inf, to_us(moment(cleaning["latest"])), FILTERED, AFTER))
    return limits
