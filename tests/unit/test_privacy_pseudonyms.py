"""Pseudonyms: a standard keyed hash, a key that is there or is said to be missing."""

import pytest

from ingestion.errors import IngestError
from ingestion.privacy.pseudonyms import key_id, pseudonym, user_key
from ingestion.privacy.settings import PrivacyConfig

KEY = b"a key of the tests alone, 1"


def test_it_is_hmac_sha256_as_rfc_4231_has_it() -> None:
    assert pseudonym("Hi There", b"\x0b" * 20) == "b0344c61d8db38535ca8afceaf0bf12b"
    assert pseudonym(" Hi There\n", b"\x0b" * 20) == pseudonym("Hi There", b"\x0b" * 20)


@pytest.mark.parametrize(
    ("value", "found"), [(None, "is not set"), ("  ", "is not set"), ("short", "has 5 bytes")]
)
def test_a_key_that_is_missing_or_short_says_how_to_make_one(
    value: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(IngestError, match=rf"SOME_KEY .*{found}; .*16 bytes.*openssl rand"):
        user_key(PrivacyConfig(user_key_env="SOME_KEY"))


def test_a_key_is_told_by_its_id_and_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY.decode() + "\n")
    key = user_key(PrivacyConfig(user_key_env="SOME_KEY"))
    assert key == KEY
    assert len(key_id(KEY)) == 8
    assert key_id(KEY) != key_id(KEY + b"2")
    assert user_key(PrivacyConfig()) is None
