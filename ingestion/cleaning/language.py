"""The language of an item's text, by py3langid."""

import ibis
import ibis.expr.types as ir

from recommender import schema

LANGUAGE = "language"
UNDETERMINED = "und"  # ISO 639-2
# Of fewer letters a language is guessed rather than told: "Die Hard" is no German.
MIN_LETTERS = 20


@ibis.udf.scalar.python(signature=(("string",), "string"))
def language_of(text: str | None) -> str | None:
    """ISO 639-1 code; "und" where there is too little to tell by; null of null."""
    if text is None:
        return None
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return UNDETERMINED
    import py3langid  # type: ignore[import-untyped]  # a second: it loads its model

    return str(py3langid.classify(text)[0])


def with_language(items: ir.Table) -> ir.Table:
    """A column `language`; one that the source has already is called source_language."""
    taken = {name.casefold() for name in items.columns}
    theirs = [name for name in items.columns if name.casefold() == LANGUAGE]
    for name in theirs:
        new = f"source_{name}"
        while new.casefold() in taken:
            new = f"source_{new}"
        items = items.rename({new: name})
    return items.mutate(**{LANGUAGE: language_of(items[schema.TEXT]).fill_null(UNDETERMINED)})
