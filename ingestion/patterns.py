"""Times by a pattern of strptime's directives, read alike on every engine.

DuckDB's strptime and Java's formatter differ in two-digit years, fractions, offsets and in what may
be missing. So a pattern becomes a regular expression, and what it finds is put together anew.
"""

import re
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from recommender.engines.functions import UTC

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_GROUPS = {
    "Y": r"(\d{4})",
    "f": r"(\d{1,9})",
    "p": r"([AaPp])[Mm]",
    "b": f"((?i:{'|'.join(month[:3] for month in _MONTHS)}))",
    "B": f"((?i:{'|'.join(_MONTHS)}))",
    "j": r"(\d{1,3})",
    "z": r"(?:Z|([+-]\d{2})(?::?(\d{2}))?)",
}
_NUMBERS = frozenset("YymdHIMSfj")


def parsed(text: ir.StringValue, pattern: str) -> ir.Value:
    """UTC in microseconds, null where `text` is not of the pattern or no time.

    Two-digit years are of 1969 to 2068, as POSIX has it. What a pattern lacks is the first of its
    kind; without an offset it is UTC. Digits beyond microseconds are cut.
    """
    found = _Found(text, *_regular_expression(pattern))
    day = found.number("d") if "d" in found.groups else ibis.literal(1)
    year, month = _year(found), _month(found)
    whole = _padded(year, 4) + "-" + _padded(month, 2) + "-" + _padded(day, 2)
    whole = whole + " " + _padded(_hour(found), 2)
    for directive in "MS":
        whole = (
            whole
            + ":"
            + (_padded(found.number(directive), 2) if directive in found.groups else "00")
        )
    whole = whole + "." + (found.text_of("f")[:6] if "f" in found.groups else "0")
    if "z" in found.groups:
        whole = whole + _or(found.text_of("z"), "+00") + ":" + _or(found.text_of("z", 1), "00")
    else:
        whole = whole + "+00:00"
    moment = found.matches().ifelse(whole, ibis.null("string")).try_cast(UTC)
    return _on_day_of_year(moment, year, found.number("j")) if "j" in found.groups else moment


@dataclass(frozen=True)
class _Found:
    """What the directives of a pattern match in a text."""

    text: ir.StringValue
    expression: str
    groups: dict[str, int]  # of each directive

    def matches(self) -> ir.BooleanValue:
        return self.text.re_search(self.expression)

    def text_of(self, directive: str, further: int = 0) -> ir.StringValue:
        return self.text.re_extract(self.expression, self.groups[directive] + further)

    def number(self, directive: str) -> ir.Value:
        return self.text_of(directive).try_cast("int64")


def _regular_expression(pattern: str) -> tuple[str, dict[str, int]]:
    """The expression, and the group of every directive; of several alike the first counts."""
    tokens = re.findall(r"%.|[^%]+", pattern)
    expression, groups, count = "", dict[str, int](), 0
    for index, token in enumerate(tokens):
        directive = token[1:]
        if token == "%%" or token[0] != "%":
            expression += re.escape("%" if token == "%%" else token)
            continue
        # Beside another number, one digit would be as good a reading as two.
        beside = (*tokens[max(0, index - 1) : index], *tokens[index + 1 : index + 2])
        glued = any(each[0] == "%" and each[1] in _NUMBERS for each in beside)
        if directive == "j" and glued:
            expression += r"(\d{3})"
        else:
            expression += _GROUPS.get(directive, r"(\d{2})" if glued else r"(\d{1,2})")
        groups.setdefault(directive, count + 1)
        count += 2 if directive == "z" else 1
    return f"^{expression}$", groups


def _year(found: _Found) -> ir.Value:
    if "Y" in found.groups:
        return found.number("Y")
    year = found.number("y")
    return year + (year < 69).ifelse(2000, 1900)


def _month(found: _Found) -> ir.Value:
    if "m" in found.groups:
        return found.number("m")
    for directive in "bB":
        if directive in found.groups:
            numbers = ((month[:3], number) for number, month in enumerate(_MONTHS, 1))
            return found.text_of(directive).lower()[:3].cases(*numbers)
    return ibis.literal(1)


def _hour(found: _Found) -> ir.Value:
    """Of 24, or of 12 with a half of the day, by default the first."""
    if "H" in found.groups:
        # 24:00 is tomorrow to one engine and nothing to another.
        return found.number("H").between(0, 23).ifelse(found.number("H"), ibis.null("int64"))
    if "I" not in found.groups:
        return ibis.literal(0)
    hour = found.number("I")
    noon = (found.text_of("p").lower() == "p").ifelse(12, 0) if "p" in found.groups else 0
    return hour.between(1, 12).ifelse(hour % 12 + noon, ibis.null("int64"))


def _on_day_of_year(january: ir.Value, year: ir.Value, day: ir.Value) -> ir.Value:
    """`january`, the first of the year, so many days later; null beyond the year."""
    leap = ((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))).ifelse(1, 0)
    later = january + (day - 1).as_interval("D")
    return day.between(1, 365 + leap).ifelse(later, ibis.null(UTC))


def _padded(number: ir.Value, digits: int) -> ir.StringValue:
    return number.cast("string").lpad(digits, "0")


def _or(text: ir.StringValue, other: str) -> ir.StringValue:
    return (text.isnull() | (text == "")).ifelse(ibis.literal(other), text)
