"""A user's rows in parquet files: of snapshots, rejects, windows, features and increments."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.privacy.raw_rows import ERASED as ERASED_ROW
from ingestion.reading.raw import RAW_LINE, RAW_MALFORMED, RAW_POSITION
from pipelines.erase.needle import Needle
from pipelines.erase.report import Report, counted
from recommender.files import atomic_file
from recommender.schema import REJECTS, USER_ID

_NOTHING = "{}"  # a reject's row that is not kept


def is_parquet(head: bytes) -> bool:
    return head.startswith(b"PAR1")


def erase_table(
    path: Path, needle: Needle, report: Report, user_columns: Sequence[str] = ()
) -> int:
    """Take a user's rows out of one parquet file, which stays as it is if there are none.

    - A table with `user_id` loses the rows.
    - Of rejects and of increments, whose rows are counted, rows stay without their content.
    - In any other text a distinctive id becomes "[erased]".

    Args:
        user_columns: how the source calls user ids; needed for rejects and increments.

    Returns:
        Rows removed.
    """
    change = _change(pq.read_schema(path), needle, user_columns)
    touched = removed = 0
    for batch in _batches(path):
        after, rows = change(batch)
        touched += rows
        removed += batch.num_rows - after.num_rows
    if not touched:
        return 0
    note = "" if removed else " (their content)" if _counts(path) else " (a mention)"
    report.erased(path, f"{counted(touched, 'row')}{note}")
    if not report.dry:
        _rewrite(path, change)
    return removed


def _rewrite(path: Path, change: Callable[[pa.Table], tuple[pa.Table, int]]) -> None:
    with (
        atomic_file(path) as draft,
        pq.ParquetWriter(draft, pq.read_schema(path), compression="zstd") as writer,
    ):
        for batch in _batches(path):
            after, _ = change(batch)
            if after.num_rows:
                writer.write_table(after, row_group_size=max(1, batch.num_rows))


def _batches(path: Path) -> Iterator[pa.Table]:
    """Row groups."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def _counts(path: Path) -> bool:
    names = pq.read_schema(path).names
    return RAW_POSITION in names or _is_rejects(names)


def _is_rejects(names: list[str]) -> bool:
    return set(REJECTS.names[:4]) <= set(names)


def _change(
    columns: pa.Schema, needle: Needle, user_columns: Sequence[str]
) -> Callable[[pa.Table], tuple[pa.Table, int]]:
    """A function of rows to (rows as they should be, how many of them were the user's)."""
    if RAW_POSITION in columns.names:
        return lambda rows: _blank_raw(rows, needle, user_columns)
    if _is_rejects(columns.names):
        return lambda rows: _blank_rejects(rows, needle, user_columns)
    return lambda rows: _without_rows(rows, needle)


def _without_rows(rows: pa.Table, needle: Needle) -> tuple[pa.Table, int]:
    before = rows.num_rows
    if USER_ID in rows.column_names:
        rows = rows.filter(pc.invert(_are(rows[USER_ID], needle)))
    rows, mentions = _without_mentions(rows, needle, [USER_ID])
    return rows, before - rows.num_rows + mentions


def _blank_rejects(
    rows: pa.Table, needle: Needle, user_columns: Sequence[str]
) -> tuple[pa.Table, int]:
    texts = rows["row"].to_pylist()
    hers = [_has_user(text, needle, user_columns) for text in texts]
    if not any(hers):
        return rows, 0
    blank = [_NOTHING if found else text for text, found in zip(texts, hers, strict=True)]
    index = rows.column_names.index("row")
    return rows.set_column(index, rows.schema.field(index), pa.array(blank, pa.string())), sum(hers)


def _has_user(text: str, needle: Needle, user_columns: Sequence[str]) -> bool:
    """Whether a reject's row, JSON of a source's columns, is of the user or names him."""
    if needle.is_in(text):
        return True
    if not any(each in text for each in needle.ids):
        return False
    content = json.loads(text)
    if set(content) == {"line"}:
        return _names_user(content["line"], needle)
    return any(needle.is_user(content.get(name)) for name in user_columns)


def _names_user(line: str | None, needle: Needle) -> bool:
    """Whether a line that could not be split is of the user, as far as can be told."""
    words = re.split(r"[^\w.@-]+", line or "")
    return line is not None and (needle.is_in(line) or any(map(needle.is_user, words)))


def _blank_raw(rows: pa.Table, needle: Needle, user_columns: Sequence[str]) -> tuple[pa.Table, int]:
    """Rows of an increment: as `ingestion.privacy.raw_rows.protect` leaves an erased user's."""
    hers = pa.array([False] * rows.num_rows)
    for name in set(user_columns) & set(rows.column_names):
        hers = pc.or_(hers, _are(rows[name], needle))
    if rows[RAW_LINE].null_count < rows.num_rows:
        lines = [_names_user(line, needle) for line in rows[RAW_LINE].to_pylist()]
        hers = pc.or_(hers, pa.array(lines, pa.bool_()))
    found = pc.sum(hers).as_py() or 0
    if found:
        for index, name in enumerate(rows.column_names):
            column = rows[name]
            if not name.startswith("__") or name == RAW_LINE:
                column = pc.if_else(hers, pa.scalar(None, column.type), column)
            elif name == RAW_MALFORMED:
                column = pc.if_else(hers, pa.scalar(ERASED_ROW, column.type), column)
            rows = rows.set_column(index, rows.schema.field(index), column)
    rows, mentions = _without_mentions(rows, needle, user_columns)
    return rows, found + mentions


def _are(column: pa.ChunkedArray, needle: Needle) -> Any:
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.fill_null(pc.is_in(trimmed, pa.array(needle.ids)), False)


def _without_mentions(
    rows: pa.Table, needle: Needle, user_columns: Sequence[str]
) -> tuple[pa.Table, int]:
    """Texts without a distinctive id; in how many rows there was one.

    Args:
        user_columns: ids of the users who are left: "ann-smith-2" says nothing of "ann-smith".
    """
    mentioned: set[int] = set()
    for index, name in enumerate(rows.column_names):
        column = rows[name]
        kind = column.type
        if name in user_columns or not any(
            pc.any(pc.match_substring(texts, each)).as_py()
            for each in needle.distinctive
            for chunk in column.chunks
            for texts in _texts(chunk)
        ):
            continue
        values = column.to_pylist()
        changed = [_value_without(value, needle) for value in values]
        mentioned |= {
            row for row, (old, new) in enumerate(zip(values, changed, strict=True)) if old != new
        }
        rows = rows.set_column(index, rows.schema.field(index), pa.array(changed, kind))
    return rows, len(mentioned)


def _value_without(value: Any, needle: Needle) -> Any:
    if isinstance(value, list | tuple):  # a map is a list of pairs
        return type(value)(_value_without(each, needle) for each in value)
    if isinstance(value, dict):
        return {key: _value_without(each, needle) for key, each in value.items()}
    return needle.without(value) if isinstance(value, str) else value


def _texts(values: pa.Array) -> Iterator[pa.Array]:
    """All texts in an array, however deep in lists, structs and maps."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary)
    elif pa.types.is_struct(kind):
        for part in values.flatten():
            yield from _texts(part)
    elif pa.types.is_map(kind):
        yield from _texts(values.keys)
        yield from _texts(values.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(values.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield values
