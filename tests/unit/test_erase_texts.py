"""A user in JSON, logs and pages: whole entries go, numbers that look like an id stay."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.erase.files import erase_folder
from pipelines.erase.needle import Needle
from pipelines.erase.report import Report
from pipelines.erase.texts import erase_text


def erased(path: Path, text: str, *ids: str) -> str:
    path.write_text(text, encoding="utf-8")
    erase_text(path, path.read_bytes(), Needle(ids), Report(dry=False))
    return path.read_text(encoding="utf-8")


def erased_json(tmp_path: Path, content: Any, *ids: str) -> Any:
    return json.loads(erased(tmp_path / "some.json", json.dumps(content), *ids))


def test_a_short_id_is_found_where_users_are_and_nowhere_else(tmp_path: Path) -> None:
    content = {
        "epochs": 42,
        "items": ["42", "7"],
        "sample_users": ["42", "7"],
        "users": {"42": [1], "7": [2]},
        "requests": [{"user_id": "42", "history": ["1"]}, {"user_id": "7", "history": ["42"]}],
        "note": "42 epochs; user '42' and user 7",
    }
    assert erased_json(tmp_path, content, "42") == {
        "epochs": 42,
        "items": ["42", "7"],
        "sample_users": ["7"],
        "users": {"7": [2]},
        "requests": [{"user_id": "7", "history": ["42"]}],
        "note": "42 epochs; user '[erased]' and user 7",
    }


def test_a_conspicuous_id_is_found_everywhere(tmp_path: Path) -> None:
    user = 'anna+"ü"@home'
    content = {
        "sample": ["x", user],
        user: 1,
        "author": user,
        "text": f"by {user}, twice: {user}.",
        "other": f"{user}2",
    }
    after = erased_json(tmp_path, content, user)
    assert after == {
        "sample": ["x"],
        "author": "[erased]",
        "text": "by [erased], twice: [erased].",
        "other": f"{user}2",  # somebody else
    }
    page = tmp_path / "page.html"
    assert erased(page, "<td>anna+&quot;ü&quot;@home</td>", user) == "<td>[erased]</td>"


def test_samples_of_a_validation(tmp_path: Path) -> None:
    about = {"expectation_config": {"kwargs": {"column": "user_id"}}}
    other = {"expectation_config": {"kwargs": {"column": "value"}}}
    result = {"partial_unexpected_list": ["42", "7"], "unexpected_count": 42}
    both = {"column_list": ["user_id", "item_id"]}
    rows = [{"user_id": "42", "item_id": "1"}, {"user_id": "7", "item_id": "1"}]
    content = [
        about | {"result": result},
        other | {"result": result},
        {"expectation_config": {"kwargs": both}, "result": {"partial_unexpected_list": rows}},
        {"column": "user_id", "samples": ["42"], "unexpected_count": 42},
    ]
    assert erased_json(tmp_path, content, "42") == [
        about | {"result": {"partial_unexpected_list": ["7"], "unexpected_count": 42}},
        other | {"result": result},
        {"expectation_config": {"kwargs": both}, "result": {"partial_unexpected_list": rows[1:]}},
        {"column": "user_id", "samples": [], "unexpected_count": 42},
    ]


def test_pages_of_a_validation_that_has_the_user(tmp_path: Path) -> None:
    for day, sample in (("monday", "42"), ("friday", "7")):
        result = {"column": "user_id", "samples": [sample, "8"]}
        for folder, suffix, text in (
            ("gx", ".json", json.dumps(result)),
            ("site", ".html", "<td> 42 </td><td>42 rows</td>"),
        ):
            path = tmp_path / folder / "validations" / "events" / day / f"batch{suffix}"
            path.parent.mkdir(parents=True)
            path.write_text(text)
    assert erase_folder(tmp_path, Needle(["42"]), Report(dry=False), [], [])
    pages = [
        (tmp_path / "site" / "validations" / "events" / day / "batch.html").read_text()
        for day in ("monday", "friday")
    ]
    assert pages == ["<td> [erased] </td><td>42 rows</td>", "<td> 42 </td><td>42 rows</td>"]


def test_json_lines_lose_the_user_s(tmp_path: Path) -> None:
    lines = '{"user": "u42", "k": 1}\n{"user": "u7",  "k": 2}\n'
    assert erased(tmp_path / "asked.jsonl", lines, "u42") == '{"user": "u7",  "k": 2}\n'


def test_a_log_keeps_its_length_and_who_writes_to_it(tmp_path: Path) -> None:
    path = tmp_path / "transformer.log"
    path.write_text("features of user 'ünö42' are old\n")
    with path.open("a") as writer:
        assert erase_text(path, path.read_bytes(), Needle(["ünö42"]), Report(dry=False))
        writer.write("user 'u7'\n")
    assert path.read_text() == "features of user '*******' are old\nuser 'u7'\n"


def test_a_dry_look_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("user u42")
    report = Report(dry=True)
    assert erase_text(path, path.read_bytes(), Needle(["u42"]), report)
    assert [each.done for each in report.found] == ["would be erased"]
    assert path.read_text() == "user u42"


@pytest.mark.parametrize(
    "text", ["user 421", "users: 1,942", "user_id=142", "superuser 4 2", "{broken", ""]
)
def test_nothing_of_the_user(text: str, tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    assert erased(path, text, "42") == text
