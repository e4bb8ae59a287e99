"""The files of a rollout that a step or a command leaves: its page, and the same as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recommender.files import atomic_file
from reporting.rollout_markdown import markdown, markdown_without
from reporting.rollout_page import page, page_without
from serving.rollout.record import Rollout


def write_timeline(rollout: Rollout, html: Path, text: Path | None = None) -> None:
    """The page to `html`, the Markdown to `text`."""
    _write(html, page(rollout))
    if text is not None:
        _write(text, markdown(rollout))


def write_without(
    version: str, why: str, rows: Sequence[Mapping[str, Any]], html: Path, text: Path
) -> None:
    """The same files where there was no canary.

    Args:
        why: there was none, in a sentence.
        rows: the checks that there were, {name, value, limit, passed}.
    """
    title = f"Rollout of {version}: no canary"
    _write(html, page_without(title, why, rows))
    _write(text, markdown_without(title, why, rows))


def _write(path: Path, content: str) -> None:
    with atomic_file(path) as draft:
        draft.write_text(content, encoding="utf-8")
