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


def test_curl(served: EmbeddedEndpoint, expected: list[str]) -> None:
    done = run("recommend.sh", "196", served.url)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    outputs = {each["name"]: each["data"] for each in answer["outputs"]}
    assert outputs["item_ids"] == expected
    assert outputs["feature_status"] == ["ok"]
    assert answer["model_version"] == VERSION


def test_curl_is_told_what_is_wrong(served: EmbeddedEndpoint) -> None:
    done = run("recommend.sh", 'no "JSON" any more', served.url)
    assert done.returncode == 22
    assert "unexpected character" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("name", ["recommend.py", "recommend.sh"])
def test_nobody_there_is_an_error(name: str) -> None:
    (port,) = free_ports(1)
    done = run(name, "196", f"127.0.0.1:{port}")
    assert done.returncode != 0
    assert done.stderr
