"""Dirty text files through DuckDB and through Spark: the same snapshot, the same rejects."""

from pathlib import Path
from typing import Any

import pytest
from both_engines import assert_same

ITEMS = (
    "id,name,kinds,released\n"
    'a,"Godfather, The",x|y,1972\n'
    "b,Tom &amp; <i>Jerry</i>,,1940\n"
    'c," Ｎｅｗ\u200b\ttitle ",x| |z,\n'
    "c,Again,x,1999\n"
    ",Nameless,,\n"
    "d,  ,x,2000\n"
    "e,too,many,columns,here\n"
    "short\n"
    'f,"two\nlines",y,2001\n'
)
EVENTS = (
    "user,item,when,stars,device\n"
    "u1,a,100,5,phone\n"
    "u1,a,100,5,phone\n"
    "u1,a,100,5,desk\n"
    " u2 ,b,1e2,4.5,\n"
    ",a,1,1,\n"
    "   ,a,1,1,\n"
    "u1,,1,1,\n"
    "u1,a,soon,1,\n"
    "u1,a,0x10,1,\n"
    "u1,a,1d,1,\n"
    "u1,a,1_000,1,\n"
    "u1,gone,1,1,\n"
    "\n"
    "u1,a,101,many,\n"
    "u1,a,102\n"
    "u1,a,103,1,phone,more\n"
    'u3,c,104,2,"a ""quoted""\nname"\n'
    "u1,a,1e99,1,\n"
    "u1,c,nan,2,\n"
    "u1,c,103,nan,\n"
    'u1,c,"104",Infinity,"x"\n'
    'u4,f,-5.25,"-3",\u00e9\u4e2d/\\\n'
    "last"
)


def source(folder: Path, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": "dirty",
        "max_reject_fraction": 1.0,
        "events": {
            "path": str(folder / "events*.csv"),
            "format": "csv",
            "columns": {
                "user_id": "user",
                "item_id": "item",
                "timestamp": "when",
                "value": "stars",
            },
        },
        "items": {
            "path": str(folder / "items.csv"),
            "format": "csv",
            "columns": {"item_id": "id", "title": "name", "categories": "kinds"},
            "category_separator": "|",
            "title_article": True,
            "text": "{title} ({released})",
        },
    }
    for key, value in changes.items():
        table, _, name = key.partition("__")
        if name:
            content[table][name] = value
        else:
            content[table] = value
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "events-1.csv").write_text(EVENTS)
    (tmp_path / "events-2.csv").write_text(
        "user,item,when,stars,device\nbad\nu9,b,7,1,tv\nu1,a,100,5,phone\n"
    )
    return tmp_path


def test_csv_with_every_kind_of_dirt(folder: Path) -> None:
    summary = assert_same(source(folder), folder)
    assert summary["kept"]["events"] > 4
    reasons = summary["rejected"]["events"]
    assert {
        "exact duplicate",
        "missing user_id",
        "missing item_id",
        "unknown item",
        "unparseable timestamp",
        "value is not a number",
        "malformed line: missing columns",
        "malformed line: too many columns",
    } == set(reasons)
