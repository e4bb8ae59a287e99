"""What identifies a person in a text: found as the engine finds it, checked, and never shown."""

import duckdb
import pytest

from ingestion.validation.gx_ibis.masking import CARD, EMAIL, PHONE, has_card_number, masked


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111 12/30 123",
        "4111111111111111 5 stars",
        "40 4111 1111 1111 1111",
        "卡号4111111111111111，谢谢",
        "378282246310005",
    ],
)
def test_cards_are_found_whatever_is_around_them(text: str) -> None:
    assert duckdb.execute("SELECT regexp_matches(?, ?)", [text, CARD]).fetchone() == (True,)
    assert has_card_number(text)


@pytest.mark.parametrize("text", ["4111 1111 1111 1112", "a4111111111111111", "41111111111111110"])
def test_numbers_that_are_no_cards(text: str) -> None:
    assert not has_card_number(text)


@pytest.mark.parametrize(
    ("pattern", "text", "shown"),
    [
        (PHONE, "电话212-555-0100。", "电话2…0 (12 characters)。"),
        (PHONE, "née 212.555.0100", "née 2…0 (12 characters)"),
        (PHONE, "(212) 555-0100x", "(212) 555-0100x"),
        (CARD, "号4111111111111111号", "号4…1 (16 characters)号"),
        (CARD, "4012 34 4111 1111 1111 1111", "4…1 (27 characters)"),
        (EMAIL, "邮箱jane@example.com", "邮箱j…m (16 characters)"),
    ],
)
def test_what_the_engine_finds_is_masked(pattern: str, text: str, shown: str) -> None:
    found = duckdb.execute("SELECT regexp_matches(?, ?)", [text, pattern]).fetchone()
    assert found == (shown != text,)
    assert masked(text) == shown
