"""Pseudonyms: a standard keyed hash, a key that is there or is said to be missing."""

import uuid
from collections.abc import Iterator
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pytest

from ingestion.errors import IngestError
from ingestion.privacy.pseudonyms import key_id, pseudonym, pseudonymise, user_key
from ingestion.privacy.settings import PrivacyConfig

KEY = b"a key of the tests alone, 1"


@pytest.fixture
def connection() -> Iterator[Any]:
    opened = ibis.duckdb.connect()
    yield opened
    opened.disconnect()


def test_it_is_hmac_sha256_as_rfc_4231_has_it() -> None:
    assert pseudonym("Hi There", b"\x0b" * 20) == "b0344c61d8db38535ca8afceaf0bf12b"
    assert pseudonym(" Hi There\n", b"\x0b" * 20) == pseudonym("Hi There", b"\x0b" * 20)


def test_ids_change_and_everything_else_stays(connection: Any) -> None:
    rows = pa.table({"user_id": ["u1", "u2", None, "u1"], "position": [3, 1, 2, 0]})
    connection.create_table("events", schema=ibis.Schema.from_pyarrow(rows.schema))
    connection.insert("events", rows)
    hashed = pseudonymise(connection.table("events"), KEY, keeper(connection))
    found = hashed.order_by("position").to_pyarrow().to_pylist()
    one, two = pseudonym("u1", KEY), pseudonym("u2", KEY)
    assert [row["user_id"] for row in found] == [one, two, None, one]
    other = pseudonymise(connection.table("events"), KEY + b"2", keeper(connection))
    assert not {one, two} & {row["user_id"] for row in other.to_pyarrow().to_pylist()}


def test_a_number_is_its_digits(connection: Any) -> None:
    connection.create_table("numbers", schema=ibis.schema({"user_id": "int64"}))
    connection.insert("numbers", pa.table({"user_id": [17]}))
    hashed = pseudonymise(connection.table("numbers"), KEY, keeper(connection))
    assert hashed.to_pyarrow()["user_id"].to_pylist() == [pseudonym("17", KEY)]


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


def keeper(connection: Any) -> Any:
    def keep(name: str, rows: ir.Table) -> ir.Table:
        return connection.create_table(f"{name}_{uuid.uuid4().hex}", rows)

    return keep
