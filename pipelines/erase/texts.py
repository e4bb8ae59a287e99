"""A user in files of text: JSON, logs, pages, whatever else decodes."""

import html
import json
import os
import re
from pathlib import Path
from typing import Any

from pipelines.erase.needle import ERASED, Needle
from pipelines.erase.report import Report, counted
from recommender.files import atomic_file
from recommender.schema import USER_ID

_GONE: Any = object()
_OF_USERS = {"user", "users", "user_id", "user_ids", "sample_users"}
_LOGS = {".log", ".out", ".err"}


def erase_text(path: Path, content: bytes, needle: Needle, report: Report) -> bool:
    """Take a user out of a text file; whether he was in it.

    Of JSON whole entries go: elements that are the id, and objects in lists that are of the user.
    A log keeps its length and its inode, since a process may be writing to it.
    """
    text = content.decode("utf-8", errors="surrogateescape")
    if path.suffix in _LOGS:
        return _erase_log(path, text, needle, report)
    after = _json_without(text, needle)
    if after is None:
        after = needle.without(text) if needle.is_in(text) else text
    if after == text:
        return False
    report.erased(path, "mentions")
    if not report.dry:
        with atomic_file(path) as draft:
            draft.write_bytes(after.encode("utf-8", errors="surrogateescape"))
            draft.chmod(path.stat().st_mode & 0o777)
    return True


def _erase_log(path: Path, text: str, needle: Needle, report: Report) -> bool:
    lines = [line for line in text.splitlines(keepends=True) if needle.is_in(line)]
    if not lines:
        return False
    report.erased(path, counted(len(lines), "line"))
    if not report.dry:
        after = needle.masked(text).encode("utf-8", errors="surrogateescape")
        with path.open("r+b") as stream:
            stream.write(after)
            stream.flush()
            os.fsync(stream.fileno())
    return True


def _json_without(text: str, needle: Needle) -> str | None:
    """JSON, or JSON Lines, without the user; `text` itself if he is not in it; None: no JSON."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    if not any(each in text for each in needle.ids) and not needle.is_in(text):
        return text
    try:
        content = json.loads(text)
    except ValueError:
        return _lines_without(text, needle)
    after = _without(content, needle, of_users=False)
    if after == content:
        return text
    indent = 2 if "\n" in text.strip() else None
    return (
        json.dumps({} if after is _GONE else after, indent=indent, ensure_ascii=text.isascii())
        + "\n"
    )


def _lines_without(text: str, needle: Needle) -> str | None:
    kept = []
    for line in text.splitlines():
        try:
            content = json.loads(line) if line.strip() else None
        except ValueError:
            return None
        after = _without(content, needle, of_users=False)
        if after is not _GONE:
            kept.append(line if after == content else json.dumps(after))
    return "".join(f"{line}\n" for line in kept)


def _without(value: Any, needle: Needle, of_users: bool) -> Any:
    """A JSON value without the user; _GONE for one that is his.

    Args:
        of_users: it stands where users do, so that even a short id is no accident.
    """
    if isinstance(value, dict):
        if any(key in _OF_USERS and needle.is_user(each) for key, each in value.items()):
            return _GONE
        of_users = of_users or _is_about_users(value)
        parts = {
            key: _without(each, needle, key in _OF_USERS or (of_users and key in _SAMPLES))
            for key, each in value.items()
            if not needle.is_word(key) and not (of_users and needle.is_user(key))
        }
        return {key: ERASED if each is _GONE else each for key, each in parts.items()}
    if isinstance(value, list):
        parts_of_list = [_without(each, needle, of_users) for each in value]
        return [each for each in parts_of_list if each is not _GONE]
    if needle.is_word(value) or (of_users and needle.is_user(value)):
        return _GONE
    return needle.without(value) if isinstance(value, str) else value


# Of a validation's result: values that broke a check.
_SAMPLES = {
    "samples", "result", "partial_unexpected_list", "unexpected_list", "partial_unexpected_counts",
    "value", "details", "observed_value", "observed",
}  # fmt: skip


def _is_about_users(entry: dict[str, Any]) -> bool:
    """Of validation: a result whose check is one of user ids."""
    kwargs = entry.get("expectation_config", {})
    kwargs = kwargs.get("kwargs", {}) if isinstance(kwargs, dict) else {}
    return USER_ID in (entry.get("column"), kwargs.get("column"))


def erase_cells(path: Path, needle: Needle, report: Report) -> None:
    """Take a user out of a page of whose data it is known that he is in it.

    There even a short id is found, where it is all that an element has.
    """
    ids = "|".join(re.escape(html.escape(each)) for each in needle.ids)
    text = path.read_text(encoding="utf-8")
    after = re.sub(rf"(>\s*)(?:{ids})(?=\s*<)", rf"\g<1>{ERASED}", text)
    if after == text:
        return
    report.erased(path, "mentions")
    if not report.dry:
        with atomic_file(path) as draft:
            draft.write_text(after, encoding="utf-8")
