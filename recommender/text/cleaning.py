"""Plain text out of what shops write. Standard library only: cleaning in the engine imports it."""

import html
import re
import unicodedata
from collections.abc import Sequence

_MARKUP = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_SPACE = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """Plain text of one line: entities and tags gone, NFKC, no control characters.

    Cleaning a cleaned text changes nothing, so one fixed point is searched: markup may hide in
    entities ("&amp;lt;b&amp;gt;").
    """
    for _ in range(8):
        plain = _MARKUP.sub(" ", html.unescape(text))
        plain = unicodedata.normalize("NFKC", plain)
        # Cc: control; Cf: format, such as zero-width spaces and bidirectional marks; Cs: surrogates
        plain = "".join(
            character
            if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
            else ""
            for character in plain
        )
        plain = _SPACE.sub(" ", plain).strip()
        if plain == text:
            break
        text = plain
    return text


def item_text(title: str, categories: Sequence[str] = (), text: str = "") -> str:
    """What an item says of itself: "title. text. category, category".

    The title is left out where `text` begins with it, as whole words.
    """
    title, body = clean_text(title), clean_text(text)
    tags = ", ".join(filter(None, map(clean_text, categories)))
    if body.startswith(title) and not body[len(title) : len(title) + 1].isalnum():
        title = ""
    return ". ".join(filter(None, (title, body, tags)))
