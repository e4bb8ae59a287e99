"""`kuberec recommend` on a tiny endpoint: by user, quickly, with what goes wrong said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_endpoint import HISTORIES, VERSION

from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint

pytestmark = pytest.mark.timeout(120)

# Says at the end which of the heavy libraries were loaded.
SCRIPT = """
import atexit, sys
from pipelines.cli import main
heavy = {"feast", "pandas", "torch", "ibis", "kfp", "onnx"}
atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))
main()
"""


def recommend(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "recommend", *arguments],
        env=os.environ | {"KUBEREC_HOME": str(home), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def home(served: EmbeddedEndpoint) -> Path:
    return served.home.root.parent


def test_json_is_the_endpoints_answer_without_heavy_libraries(
    served: EmbeddedEndpoint, home: Path
) -> None:
    with RecommendClient(served.url) as client:
        expected = client.recommend(user_id="ü2", k=3)
    done = recommend(home, "--user", "ü2", "-k", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    answer = json.loads(done.stdout)
    items = answer.pop("recommendations")
    assert [item["item_id"] for item in items] == expected.item_ids
    assert answer.pop("feature_age_s") > 80_000
    assert answer == {
        "user": "ü2",
        "version": VERSION,
        "feature_status": "ok",
        "history": None,
    }


def test_a_person_is_shown_what_the_user_has_seen(home: Path) -> None:
    seen = len(HISTORIES["196"][0] or [])
    first = recommend(home, "--user", "196")
    assert f"user 196: {seen} items seen, latest: item-1; item-2; item-3" in first.stdout
    assert "['feast'" in first.stderr
    best = first.stdout.partition("│ 1 │ ")[2].split()[0]
    without = recommend(home, "--user", "196", "--exclude", best)
    assert without.returncode == 0, without.stderr
    assert best not in without.stdout
    nobody = recommend(home, "--user", "nobody")
    assert "user nobody has no history: popular items" in nobody.stdout


def test_a_history_may_be_given(home: Path) -> None:
    done = recommend(home, "-i", "item-9", "-i", "item-4", "--json", "-k", "1")
    answer = json.loads(done.stdout)
    assert [item["item_id"] for item in answer["history"]] == ["item-9", "item-4"]
    assert (answer["user"], answer["feature_status"]) == ("", "given")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--user", "196", "-k", "6"], "k: 6; allowed: 1 to 5, the version's export.k"),
        (["--user", "196", "--timeout", "0.001"], "did not answer within 0.001 s"),
        ([], "name either a user (--user 196) or the items of a history"),
        (["--user", "1", "--item", "2"], "name either a user (--user 196) or the items"),
    ],
)
def test_refusals_have_a_reason(home: Path, arguments: list[str], reason: str) -> None:
    done = recommend(home, *arguments, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_where_nothing_serves_it_says_how_to_start(tmp_path: Path) -> None:
    done = recommend(tmp_path, "--user", "196", "--json")
    assert done.returncode == 1
    assert "kuberec run" in done.stderr
