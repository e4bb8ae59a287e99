"""What a table's rows lose as soon as they are read, before anything else looks at them.

Pseudonyms, dropped columns and erased users concern whatever is derived of a row: tables, rejects,
increments. So it is done where rows are still as the source has them.
"""

from dataclasses import replace

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ingestion.engines.base import Keep
from ingestion.errors import IngestError
from ingestion.privacy.erased import Erased
from ingestion.privacy.pseudonyms import key_id, pseudonym, replace_users, user_key
from ingestion.privacy.settings import PrivacyConfig
from ingestion.reading.raw import RAW_LINE, RAW_MALFORMED, RawTable
from recommender.schema import USER_ID

ERASED = "erased user"  # the reason of their rows, whatever else is wrong with them
_MARK = "\n"  # in place of an erased id until the row is blanked; no id is blank


def protect(
    raw: RawTable, rows: ir.Table, config: PrivacyConfig, erased: Erased, keep: Keep
) -> tuple[RawTable, ir.Table]:
    """A raw table and its rows without what must go no further.

    - `drop_columns` are gone.
    - User ids are pseudonyms, if there is a key.
    - Rows of erased users have nulls in every column, and `ERASED` as what is wrong with them.
    - A line that could not be split may hold anything: its text is not kept if any of this applies.

    Raises:
        IngestError: the key is missing; a dropped column is one that is needed.
    """
    key = user_key(config)
    dropped = set(config.drop_columns)
    if key is None and not dropped and not erased.marks:
        return raw, rows
    _check_dropped(raw, dropped)
    user = raw.source.columns.get(USER_ID)
    raw = replace(raw, columns=[name for name in raw.columns if name not in dropped])
    kept = rows.drop(*(dropped & set(rows.columns)))
    rows = kept.mutate(**{RAW_LINE: ibis.null("string")})
    if user is None or (key is None and not erased.marks):
        return raw, rows
    stored = replace_users(rows, user, keep, _stored(key, erased), f"users_{raw.table}")
    if not erased.marks:
        return raw, stored
    gone = stored[user] == _MARK
    blank = {
        name: gone.ifelse(ibis.null(stored[name].type()), stored[name]) for name in raw.columns
    }
    wrong = gone.ifelse(ibis.literal(ERASED), stored[RAW_MALFORMED])
    return raw, stored.mutate(**blank, **{RAW_MALFORMED: wrong})


def _check_dropped(raw: RawTable, dropped: set[str]) -> None:
    for ours, theirs in raw.source.columns.items():
        if theirs in dropped and ours in raw.source.required:
            raise IngestError(
                f"{raw.table}: source.privacy.drop_columns has '{theirs}', which is {ours}; a "
                "snapshot cannot do without it"
                + (
                    ": set source.privacy.user_key_env to have pseudonyms in its place"
                    if ours == USER_ID
                    else ""
                )
            )


def _stored(key: bytes | None, erased: Erased) -> ir.Value:
    """The function of the ids of a source to what is stored of them."""

    def stored(ids: pa.Array) -> pa.Array:
        return pa.array([_stored_id(each, key, erased) for each in ids.to_pylist()], pa.string())

    # The name is the function's in the engine: one a key and set of erased users.
    name = f"stored_{'as_is' if key is None else key_id(key)}_{erased.fingerprint[:16]}"
    return ibis.udf.scalar.pyarrow(stored, name=name, signature=(("string",), "string"))


def _stored_id(user_id: str, key: bytes | None, erased: Erased) -> str | None:
    user_id = user_id.strip()
    if not user_id:
        return None
    if user_id in erased:
        return _MARK
    return user_id if key is None else pseudonym(user_id, key)
