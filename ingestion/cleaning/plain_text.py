"""Plain text in the engine: recommender.text.clean_text where a text needs it, and what it did."""

import html
import re
import unicodedata

import ibis
import ibis.expr.types as ir

from recommender.text import clean_text

NORMALISED = "Unicode normalised"
MARKUP = "markup removed"
CONTROLS = "control characters removed"
SPACES = "white space made plain"

# What clean_text leaves alone for certain: printable ASCII without entities and tags, with single
# spaces inside. Such texts, most of most catalogues, never leave the engine. Written so that RE2
# (DuckDB) and Java (Spark) read it alike.
_NEEDS_CLEANING = r"[^ -~]|[&<]|^ | $|  "
_NEEDS_TIDYING = _NEEDS_CLEANING + r"|\( *\)|\[ *\]"
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")


def found(text: str) -> list[str]:
    """What there is in a text for clean_text to do, by kind."""
    plain = text
    while (unescaped := html.unescape(plain)) != plain:
        plain = unescaped
    normal = unicodedata.normalize("NFKC", plain)
    cleaned = clean_text(text)
    kinds = []
    if plain != text or cleaned.count("<") < normal.count("<"):
        kinds.append(MARKUP)
    if normal != plain:
        kinds.append(NORMALISED)
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs") and not c.isspace() for c in plain):
        kinds.append(CONTROLS)
    if " ".join(plain.split()) != plain:
        kinds.append(SPACES)
    return kinds


def tidy(text: str) -> str:
    """Cleaned, and without the brackets of a template that nothing filled."""
    text = clean_text(text)
    while (shorter := _EMPTY_BRACKETS.sub(" ", text)) != text:
        text = clean_text(shorter)
    return text


@ibis.udf.scalar.python(signature=(("string",), "array<string>"))
def cleaned_and_found(text: str | None) -> list[str] | None:
    """The clean text, then the kinds of what was done to it; null of null."""
    return None if text is None else [clean_text(text), *found(text)]


@ibis.udf.scalar.python(signature=(("string",), "array<string>"))
def tidied_and_found(text: str | None) -> list[str] | None:
    """As `cleaned_and_found`, by `tidy`."""
    return None if text is None else [tidy(text), *found(text)]


def needs_cleaning(text: ir.StringValue, *, tidying: bool = False) -> ir.BooleanValue:
    """False where `clean_text` (or `tidy`) would change nothing, mostly so by far."""
    return text.re_search(_NEEDS_TIDYING if tidying else _NEEDS_CLEANING).fill_null(False)


def cleaning(text: ir.StringValue, *, tidying: bool = False) -> ir.ArrayValue:
    """[clean text, kinds of changes...] where the text needs it, else null.

    The others reach the function as null, not by a branch around it: Spark computes every Python
    function of a row whether a branch wants it or not.
    """
    clean = tidied_and_found if tidying else cleaned_and_found
    return clean(needs_cleaning(text, tidying=tidying).ifelse(text, ibis.null("string")))
