"""Titles and texts of items made plain, the text template filled in, and changes counted."""

from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.language import with_language
from ingestion.cleaning.plain_text import cleaning
from ingestion.cleaning.rule import REASON
from ingestion.cleaning.settings import CleaningConfig
from ingestion.cleaning.template import filled
from ingestion.engines.base import Keep
from ingestion.sources import ItemsSource, template_columns
from recommender import schema

ARTICLE = "article moved to the front"
MISSING_TITLE, NO_TEXT = "missing title", "no text"
# "Godfather, The (1972)" and "Avventura, L'"; what follows the article may be missing.
_TRAILING_ARTICLE = r"^(.+?), (The|A|An|Les?|La|L'|Il|El|Los|Las|Der|Die|Das)( \(.*)?$"
_TITLE_DONE, _TEXT_DONE, _DRAFT, _WORDS, _MOVED = (
    f"__{name}" for name in ("title_done", "text_done", "draft", "words", "moved")
)


def clean_items(
    checked: ir.Table, source: ItemsSource, config: CleaningConfig, keep: Keep
) -> tuple[ir.Table, ir.Table]:
    """Titles and texts of the items that have no `reason` yet.

    Args:
        checked: items as mapped, with position and reason; their `text` is replaced.

    Returns:
        The items, in which titles and texts are plain, with `language` if that is configured and
        a reason where either is missing; and a table (reason, rows) of what was changed in those
        that can be used.
    """
    texts = _texts(_titles(checked, source, keep), source, keep)
    reason = ibis.cases(
        (texts[REASON].notnull(), texts[REASON]),
        (texts[schema.TITLE] == "", MISSING_TITLE),
        # What only the template says (brackets, a full stop) is no text.
        ((texts[schema.TEXT] == "") | ~texts[_WORDS], NO_TEXT),
    )
    judged = texts.mutate(**{REASON: reason})
    changed = _changed(judged.filter(judged[REASON].isnull()))
    items = judged.select(*checked.columns)
    if config.language:
        items = with_language(items)
    return keep("cleaned_items", items), keep("changed_items", changed)


def _titles(checked: ir.Table, source: ItemsSource, keep: Keep) -> ir.Table:
    done = cleaning(_if_usable(checked, checked[schema.TITLE]))
    rows = keep("items_with_titles", checked.mutate(**{_TITLE_DONE: done}))
    title = ibis.coalesce(rows[_TITLE_DONE][0], rows[schema.TITLE], "")
    rows = rows.mutate(**{schema.TITLE: title, _MOVED: ibis.literal(False)})
    if source.title_article:
        title, moved = _article_first(rows[schema.TITLE])
        rows = rows.mutate(**{schema.TITLE: title, _MOVED: moved})
    return rows


def _article_first(title: ir.StringValue) -> tuple[ir.StringValue, ir.BooleanValue]:
    name, article, rest = (title.re_extract(_TRAILING_ARTICLE, group) for group in (1, 2, 3))
    space = article.endswith("'").ifelse("", " ")
    moved = title.re_search(_TRAILING_ARTICLE)
    return moved.ifelse(article + space + name + rest, title), moved


def _texts(titled: ir.Table, source: ItemsSource, keep: Keep) -> ir.Table:
    titled = titled.mutate(**{_DRAFT: filled(source.text, titled)})
    words: ir.BooleanValue = ibis.literal(True)
    columns = template_columns(source.text)
    if schema.TITLE not in columns:  # which is there, or the item has a reason already
        words = ibis.or_(*(_has_words(titled, column) for column in columns))
    done = cleaning(_if_usable(titled, titled[_DRAFT]), tidying=True)
    rows = keep("items_with_texts", titled.mutate(**{_TEXT_DONE: done, _WORDS: words}))
    text = ibis.coalesce(rows[_TEXT_DONE][0], _if_usable(rows, rows[_DRAFT]))
    return rows.mutate(**{schema.TEXT: text})


def _has_words(items: ir.Table, column: str) -> ir.BooleanValue:
    """Whether anything is left of a column when it is cleaned."""
    value = _if_usable(items, filled(f"{{{column}}}", items))
    return (ibis.coalesce(cleaning(value)[0], value) != "").fill_null(False)


def _if_usable(rows: ir.Table, value: Any) -> Any:
    return rows[REASON].isnull().ifelse(value, ibis.null("string"))


def _changed(items: ir.Table) -> ir.Table:
    """(reason, rows): in how many items a column was changed, by what was done to it."""
    parts = [
        _kinds(items, schema.TITLE, _TITLE_DONE),
        _kinds(items, schema.TEXT, _TEXT_DONE),
        items.filter(items[_MOVED]).select(**{REASON: ibis.literal(f"{schema.TITLE}: {ARTICLE}")}),
    ]
    kinds = ibis.union(*parts)
    return kinds.group_by(REASON).agg(rows=kinds.count())


def _kinds(items: ir.Table, column: str, done: str) -> ir.Table:
    kinds = items.filter(items[done].notnull()).select(kind=items[done][1:].unnest())
    return kinds.select(**{REASON: ibis.literal(f"{column}: ") + kinds["kind"]})
