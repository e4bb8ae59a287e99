"""Markdown that shows what it is given: cells, paragraphs and lists in which data stays data."""

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A table, whose last `numbers` columns but none before are set to the right."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def paragraph(text: str) -> str:
    """A paragraph; lines after the first, such as the checks of an error, as they are."""
    first, _, rest = text.partition("\n")
    return f"{plain(first)}\n\n```\n{rest}\n```" if rest else plain(first)


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)


def plain(text: str) -> str:
    """One line, whose pipes do not end a table's cell and whose `<` begins no HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def inert(text: str) -> str:
    """The same, where the text is data: no emphasis, no code, no link, no image."""
    return re.sub(r"([\\`*\[\]])", r"\\\1", " ".join(text.split()))
