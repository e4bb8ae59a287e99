"""What a table's rows lose as soon as they are read, before anything else looks at them.

Pseudonyms, dropped columns and erased users concern whatever is derived of a row: tables, rejects,
increments. So it is done where rows are still as the source has them.
"""

from collections.abc import Callable
from dataclasses import replace

import ibis
import ibis.expr.types as ir

from ingestion.engines.base import Keep
from ingestion.errors import IngestError
from ingestion.privacy.erased import Erased
from ingestion.privacy.pseudonyms import key_id, pseudonym, user_key
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
        IngestError: the key is missing; a column to drop is not there, or is needed.
    """
    key = user_key(config)
    dropped = {
        name for table, names in config.drop_columns.items() if table == raw.table for name in names
    }
    if key is None and not dropped and not erased.marks:
        return raw, rows
    _check_dropped(raw, dropped)
    user = raw.source.columns.get(USER_ID)
    raw = replace(raw, columns=[name for name in raw.columns if name not in dropped])
    kept = rows.drop(*dropped)
    rows = kept.mutate(**{RAW_LINE: ibis.null("string")})
    if user is None or (key is None and not erased.marks):
        return raw, rows
    stored = _replace_users(rows, user, keep, _stored(key, erased), f"users_{raw.table}")
    if not erased.marks:
        return raw, stored
    gone = stored[user] == _MARK
    blank = {
        name: gone.ifelse(ibis.null(stored[name].type()), stored[name]) for name in raw.columns
    }
    wrong = gone.ifelse(ibis.literal(ERASED), stored[RAW_MALFORMED])
    return raw, stored.mutate(**blank, **{RAW_MALFORMED: wrong})


def _check_dropped(raw: RawTable, dropped: set[str]) -> None:
    source, setting = raw.source, f"source.privacy.drop_columns.{raw.table}"
    used = {theirs: f"source.{raw.table}.columns.{ours}" for ours, theirs in source.columns.items()}
    used |= {each.column: f"source.{raw.table}.filters" for each in source.filters}
    for name in sorted(dropped):
        if name not in raw.columns:
            raise IngestError(
                f"{raw.table}: {setting} has '{name}', and the files have no such column; they "
                f"have {', '.join(raw.columns)}"
            )
        if name in used:
            way_out = (
                "set source.privacy.user_key_env to have pseudonyms in its place"
                if name == source.columns.get(USER_ID)
                else "take it out of one of them"
            )
            raise IngestError(
                f"{raw.table}: {setting} has '{name}', which {used[name]} uses: {way_out}"
            )


def _replace_users(
    rows: ir.Table, column: str, keep: Keep, change: Callable[[ir.Value], ir.Value], name: str
) -> ir.Table:
    """`rows` with `change`, an Ibis function of strings, of the ids in `column`.

    Args:
        name: of the table of ids that is kept meanwhile.
    """
    text = rows[column].cast("string")
    ids = rows.select(__user=text).distinct()
    ids = ids.filter(ids["__user"].notnull())
    # Kept: a function of Python's would be called again for each use of the expression.
    changed = keep(name, ids.mutate(__stored=change(ids["__user"])))
    joined = rows.left_join(changed, text == changed["__user"])
    return joined.select(
        **{each: joined["__stored"] if each == column else joined[each] for each in rows.columns}
    )


def _stored(key: bytes | None, erased: Erased) -> ir.Value:
    """The function of the ids of a source to what is stored of them."""

    def stored(user_id: str) -> str:
        return _stored_id(user_id, key, erased)

    # The name is the function's in the engine: one a key and set of erased users. Row by row: what
    # Ibis calls a function of Arrow arrays is one of single values on Spark.
    name = f"stored_{'as_is' if key is None else key_id(key)}_{erased.fingerprint[:16]}"
    return ibis.udf.scalar.python(stored, name=name, signature=(("string",), "string"))


def _stored_id(user_id: str, key: bytes | None, erased: Erased) -> str:
    user_id = user_id.strip()
    if not user_id:
        return ""
    if user_id in erased:
        return _MARK
    return user_id if key is None else pseudonym(user_id, key)
