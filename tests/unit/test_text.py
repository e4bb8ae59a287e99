"""Item texts cleaned and put together."""

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.text import clean_text, item_text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Léon&nbsp;&amp; Co", "Léon & Co"),
        ("<p>Toy <b>Story</b></p><br/>", "Toy Story"),
        ("&lt;i&gt;Alien&lt;/i&gt;", "Alien"),
        ("ﬁlm １９９５", "film 1995"),
        ("a\x00b\u200bc\t\n d", "abc d"),
        ("love <3 and 1 < 2 > 0", "love <3 and 1 < 2 > 0"),
        ("<!-- hidden -->seen", "seen"),
        ("", ""),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean


@given(st.text(max_size=40) | st.text(alphabet="<>&;amplt/b! ", max_size=30))
def test_cleaning_twice_is_cleaning_once(raw):
    clean = clean_text(raw)
    assert clean_text(clean) == clean
    assert unicodedata.normalize("NFKC", clean) == clean
    assert clean == " ".join(clean.split())


def test_item_text_says_title_once():
    assert item_text("Toy Story", ["Animation", ""], "Toy Story (1995)") == (
        "Toy Story (1995). Animation"
    )
    assert item_text("Alien", [], "In space") == "Alien. In space"
    assert item_text("Alien") == "Alien"
    assert item_text("Up", [], "Upside down") == "Up. Upside down"


def test_cleaning_imports_nothing_heavy():
    """An engine's workers import it for every batch's process."""
    code = (
        "import sys; from recommender.text import clean_text; "
        "print([n for n in ('torch', 'transformers', 'sklearn', 'tokenizers', 'scipy') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
