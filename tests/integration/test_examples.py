"""The examples of the clients' guide, run as a reader would, against a real endpoint."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_endpoint import VERSION

from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.timeout(120)


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    interpreter = [sys.executable] if name.endswith(".py") else ["sh"]
    command = [*interpreter, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd="/")


@pytest.fixture(scope="module")
def expected(served: EmbeddedEndpoint) -> list[str]:
    with RecommendClient(served.url) as client:
        return client.recommend(user_id="196").item_ids


def test_plain_tritonclient(served: EmbeddedEndpoint, expected: list[str]) -> None:
    done = run("recommend.py", "196", served.url)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [item for item, _ in rows] == expected
    scores = [float(score) for _, score in rows]
    assert scores == sorted(scores, reverse=True)


def curl(user: str, url: str) -> tuple[str, dict[str, list]]:
    """The version that answered, and its outputs."""
    done = run("recommend.sh", user, url)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    return answer["model_version"], {each["name"]: each["data"] for each in answer["outputs"]}


def test_curl(served: EmbeddedEndpoint, expected: list[str]) -> None:
    version, outputs = curl("196", served.url)
    assert version == VERSION
    assert outputs["item_ids"] == expected
    assert outputs["feature_status"] == ["ok"]


def test_curl_takes_any_user(served: EmbeddedEndpoint) -> None:
    assert curl("ü2", served.url)[1]["feature_status"] == ["ok"]
    for user in (r"""a "user" \ of 'quotes' & $more""", '"], "data": ["196', "196\\", "-n"):
        assert curl(user, served.url)[1]["feature_status"] == ["unknown"]


def test_curl_is_told_what_is_wrong(served: EmbeddedEndpoint) -> None:
    done = run("recommend.sh", "x" * 2000, served.url)
    assert done.returncode == 22
    assert "an id of 2000 bytes" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("name", ["recommend.py", "recommend.sh"])
def test_nobody_there_is_an_error(name: str) -> None:
    (port,) = free_ports(1)
    done = run(name, "196", f"127.0.0.1:{port}")
    assert done.returncode != 0
    assert done.stderr
