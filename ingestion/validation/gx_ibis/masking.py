"""What identifies a person in a text, and how a value is shown without it."""

import re
from typing import Any

# Written for RE2 (DuckDB), Java (Spark) and Python alike: no look-around, and ends of words by the
# characters themselves, for each has another notion of \b beside a letter that is not ASCII.
_START, _END = r"(?:^|[^0-9A-Za-z_])", r"(?:[^0-9A-Za-z_]|$)"
EMAIL = r"[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
# International with a plus, or North American in groups: any run of digits would be no evidence.
PHONE = (
    r"(?:^|[^0-9A-Za-z+])\+[1-9][0-9]{0,2}[ ().-]{0,2}(?:[0-9]{2,4}[ ().-]{0,2}){2,4}[0-9]{2,4}"
    rf"{_END}"
    rf"|\([2-9][0-9]{{2}}\) ?[0-9]{{3}}[-. ][0-9]{{4}}{_END}"
    rf"|{_START}[2-9][0-9]{{2}}[-.][0-9]{{3}}[-.][0-9]{{4}}{_END}"
)
# 13 to 19 digits, alone or in groups, that begin as the large card networks' numbers do.
_NUMBER = r"(?:4|5[1-5]|2[2-7]|3[47]|6(?:011|4[4-9]|5))(?:[ -]?[0-9]){11,17}"
CARD = f"{_START}{_NUMBER}{_END}"
# For Python: what is around an identifier stays, but for digits behind a card's.
_SHOWN = (EMAIL, f"{_START}{_NUMBER}(?:[ -][0-9]+)*{_END}", PHONE)
_PERSONAL = re.compile(
    "|".join(each.replace(_START, r"\b").replace(_END, r"\b") for each in _SHOWN), re.ASCII
)
_CARDS = re.compile(rf"\b(?=({_NUMBER})\b)", re.ASCII)  # at every place where one may begin


def masked(value: Any) -> Any:
    """A value with what looks like an identifier of a person replaced by its ends."""
    if not isinstance(value, str):
        return value
    return _PERSONAL.sub(lambda match: mask(match.group()), value)


def mask(text: str) -> str:
    """First and last character and the length: enough to look for it in the source."""
    return f"{text[0]}…{text[-1]} ({len(text)} characters)"


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others: ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (1 + place % 2)
        total += number - 9 if number > 9 else number
    return total % 10 == 0


def has_card_number(text: str | None) -> bool:
    """Whether a text has a number that begins, is as long and checks as a payment card's.

    What comes behind may be groups of digits, too: "4111 1111 1111 1111 12/30".
    """
    return any(_is_card(found) for found in _CARDS.findall(text or ""))


def _is_card(number: str) -> bool:
    """Whether the number, or its first groups, have the length and the last digit of a card's."""
    groups = re.split("[ -]", number)
    begins = ("".join(groups[: count + 1]) for count in range(len(groups)))
    return any(13 <= len(digits) <= 19 and luhn(digits) for digits in begins)
