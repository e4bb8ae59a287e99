"""What a user is looked for by: the id as the source has it, and its pseudonyms."""

import html
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

ERASED = "[erased]"  # in place of an id inside a text
# Where a text names a user: "user 'u1'", "user_id: u1", '"user": "u1"', "user_ids=[u1".
_NAMED = r"\busers?(?:[_ ]?ids?)?[\"']?\s*[:=]?\s*[\[(]?\s*[\"']?"
_SHORTEST = 6


class Needle:
    """The ids of one user.

    An id of digits alone, or a short one, is also a count, a time or a word: inside a text it is
    found only where a user is named. Others are found wherever they stand as a word of their own.
    In a column or a field of users every id is found.

    Attributes:
        ids: as they may be stored.
        distinctive: those of them that are looked for in every text.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = tuple(dict.fromkeys(each.strip() for each in ids))
        self.distinctive = tuple(each for each in self.ids if _is_distinctive(each))
        named, words = (
            "|".join(re.escape(form) for each in several for form in _forms(each))
            for several in (self.ids, self.distinctive)
        )
        patterns = [rf"(?P<before>{_NAMED})(?:{named})(?!\w)"]
        if words:
            patterns.append(rf"(?<!\w)(?:{words})(?!\w)")
        self._pattern = re.compile("|".join(patterns))

    def is_user(self, value: Any) -> bool:
        """Whether a value, of a place where users are, is this one."""
        return isinstance(value, str | int) and str(value).strip() in self.ids

    def is_word(self, value: Any) -> bool:
        """Whether a value of any place can be nothing but this user."""
        return isinstance(value, str) and value.strip() in self.distinctive

    def is_in(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def without(self, text: str) -> str:
        """`text` with ERASED in place of the user."""
        return self._pattern.sub(lambda found: f"{found['before'] or ''}{ERASED}", text)

    def masked(self, text: str) -> str:
        """`text` with as many asterisks in place of the user as there were bytes."""

        def stars(found: re.Match[str]) -> str:
            before = found["before"] or ""
            return before + "*" * len(found[0].removeprefix(before).encode())

        return self._pattern.sub(stars, text)

    @property
    def bytes(self) -> list[bytes]:
        """What distinctive ids are among bytes that are no text."""
        return [form.encode() for each in self.distinctive for form in _forms(each)]


def _is_distinctive(user_id: str) -> bool:
    return len(user_id) >= _SHORTEST and not user_id.replace(".", "").replace("-", "").isdigit()


def _forms(user_id: str) -> list[str]:
    """An id as JSON, HTML and URLs write it."""
    escaped = json.dumps(user_id)[1:-1]
    return list(dict.fromkeys([user_id, escaped, html.escape(user_id), quote(user_id, safe="")]))
