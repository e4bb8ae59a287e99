"""Items' titles and texts: made plain, filled into the template, and every change counted."""

from collections.abc import Iterator
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingestion.cleaning import plain_text
from ingestion.cleaning.settings import CleaningConfig
from ingestion.cleaning.texts import clean_items
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from ingestion.errors import IngestError
from ingestion.sources import ItemsSource
from recommender.engines.settings import EngineConfig
from recommender.text import clean_text

# Characters that cleaning has something to do with, beside those that it has not.
texts = st.text(
    st.sampled_from(" ab&<>/;()[]\t\n\u00a0\u200bﬁ＜é\x00\u2028") | st.characters(codec="utf-8")
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_engine(EngineConfig(), tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


def cleaned(
    engine: Engine,
    titles: list[str | None],
    language: bool = False,
    reasons: list[str | None] | None = None,
    columns: dict[str, Any] | None = None,
    **source: Any,
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """(items in their order, reason: rows changed)"""
    count = len(titles)
    table = pa.table(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "title": pa.array(titles, pa.string()),
            "text": pa.nulls(count, pa.string()),
            **(columns or {}),
            "position": pa.array(range(count), pa.int64()),
            "reason": pa.array(reasons or [None] * count, pa.string()),
        }
    )
    config = ItemsSource(
        path="items", format="csv", columns={"item_id": "id", "title": "name"}, **source
    )
    checked = engine.keep("checked", ibis.memtable(table))
    items, changed = clean_items(checked, config, CleaningConfig(language=language), engine.keep)
    rows = items.order_by("position").to_pyarrow()
    assert [name for name in rows.column_names if "language" not in name] == [
        name for name in table.column_names if name != "language"
    ]
    counts = changed.to_pyarrow().to_pylist()
    return rows.to_pylist(), {row["reason"]: row["rows"] for row in counts}


def one(engine: Engine, title: str, **more: Any) -> tuple[str, str, str | None]:
    row = cleaned(engine, [title], **more)[0][0]
    return row["title"], row["text"], row["reason"]


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("Godfather, The", "The Godfather"),
        ("Godfather, The (1972)", "The Godfather (1972)"),
        ("Avventura, L' (1960)", "L'Avventura (1960)"),
        ("City of Lost Children, The (Cité, La)", "The City of Lost Children (Cité, La)"),
        ("Good, The Bad and the Ugly, The", "The Good, The Bad and the Ugly"),
        ("Me, Theodore", "Me, Theodore"),
        ("Cl&eacute;s,&#32;Les ", "Les Clés"),
    ],
)
def test_a_trailing_article_comes_first_if_configured(
    engine: Engine, title: str, plain: str
) -> None:
    assert one(engine, title, title_article=True)[0] == plain
    assert one(engine, title)[0] == clean_text(title)


def test_a_template_takes_any_column(engine: Engine) -> None:
    columns = {
        "year": pa.array([1999, None], pa.int64()),
        "tags": [["x", "y"], []],
        "score": [1e7, float("nan")],
        "seen": pa.array([0, 10**6], pa.timestamp("us", "UTC")),
        "about": ["  <b>Some</b>\nwords ", None],
    }
    template = "{{{title}}} ({year}) [{tags}] {score} {seen} {about} {title:.2}{year:>6}"
    rows, _ = cleaned(engine, ["One", "Two"], columns=columns, text=template)
    assert [row["text"] for row in rows] == [
        "{One} (1999) [x, y] 10000000.0 1970-01-01 00:00:00 Some words On 1999",
        "{Two} 1970-01-01 00:00:01 Tw",
    ]


def test_what_only_the_template_says_is_no_text(engine: Engine) -> None:
    columns = {"about": ["words", None, " ", "<p>&nbsp;</p>", "()", "0"]}
    rows, _ = cleaned(engine, ["t"] * 6, columns=columns, text="About: {about}.")
    reasons = [row["reason"] for row in rows]
    assert reasons == [None, "no text", "no text", "no text", None, None]


def test_titles_of_nothing_are_missing_and_earlier_reasons_stay(engine: Engine) -> None:
    titles = [None, "", " \u200b", "<br>", "a", "b"]
    rows, _ = cleaned(engine, titles, reasons=[None] * 5 + ["missing item_id"])
    missing = "missing title"
    assert [row["reason"] for row in rows] == [missing] * 4 + [None, "missing item_id"]


def test_changes_are_counted_by_column_and_kind(engine: Engine) -> None:
    titles = ["plain", "a  b", "a &amp; b", "<i>Ｎ</i>\u200b", "x, The", "Tom's (1)", None]
    columns = {"about": ["plain", "é", "a\x01", "a\n", "(b)", "<", "<gone>"]}
    _, changed = cleaned(
        engine, titles, columns=columns, text="{title} {about}", title_article=True
    )
    assert changed == {
        "title: white space made plain": 1,
        "title: markup removed": 2,
        "title: Unicode normalised": 1,
        "title: control characters removed": 1,
        "title: article moved to the front": 1,
        "text: control characters removed": 1,
        "text: white space made plain": 1,
    }


def test_plain_texts_never_leave_the_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(text: str) -> str:
        seen.append(text)
        return clean_text(text)

    monkeypatch.setattr(plain_text, "clean_text", watched)
    cleaned(engine, ["Plain (1999) - it's #1; [x]!", "é", "another ~ one"])
    assert set(seen) == {"é"}


def test_the_language_of_what_is_long_enough(engine: Engine) -> None:
    titles = [
        "The old man walks to the sea every morning",
        "Der alte Mann geht jeden Morgen an das Meer",
        "Die Hard",
        None,
    ]
    rows, _ = cleaned(engine, titles, language=True, columns={"language": ["a", "b", "c", "d"]})
    assert [row["language"] for row in rows] == ["en", "de", "und", "und"]
    assert [row["source_language"] for row in rows] == ["a", "b", "c", "d"]


def test_a_format_that_python_has_not_is_an_error(engine: Engine) -> None:
    with pytest.raises(IngestError, match=r"'\{title:d\}' formats column 'title' by 'd'.*:.4"):
        cleaned(engine, ["a"], text="{title:d}")


@settings(max_examples=6, deadline=None)
@given(st.lists(texts, min_size=1, max_size=100))
def test_the_engine_cleans_as_python_does_and_again_changes_nothing(
    engine: Engine, titles: list[str]
) -> None:
    titles = [title.replace("\x00", "") or "t" for title in titles]  # no text of a database
    rows, _ = cleaned(engine, titles)
    assert [row["title"] for row in rows] == [clean_text(title) for title in titles]
    kept = [row for row in rows if row["reason"] is None]
    again, changed = cleaned(engine, [row["title"] for row in kept])
    assert [row["title"] for row in again] == [row["title"] for row in kept]
    assert [row["text"] for row in again] == [row["text"] for row in kept]
    assert not [reason for reason in changed if reason.startswith("title")]


@given(texts)
@example("(<b></b>)")
@example("(())[ ]")
@example("&amp;lt;b&amp;gt;")
def test_a_text_is_changed_only_if_something_is_found_and_tidy_is_idempotent(text: str) -> None:
    assert plain_text.tidy(plain_text.tidy(text)) == plain_text.tidy(text)
    if clean_text(text) != text:
        assert plain_text.found(text)
    if clean_text(text) == text:
        assert not plain_text.found(text)
