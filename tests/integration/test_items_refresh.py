"""New items join the version that serves: `kuberec items refresh` on a whole endpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import Result
from feature_stores import HISTORIES, sqlite_store
from genre_version import genre_of, known_items, title, write_genre_version, write_items
from quick_rollouts import quick_rollout
from recommender_data import vocabulary
from typer.testing import CliRunner

from pipelines.cli import app
from recommender.errors import KuberecError
from recommender.files import read_json, write_json
from serving.client import RecommendClient
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports
from serving.rollout.embedded.rollout import rollout
from serving.settings import ServingConfig
from serving.version import load_version

pytestmark = pytest.mark.timeout(180)
NEW = {"n-space": title("space", 100), "n-sea": title("sea", 101), "n-west": title("west", 102)}


class Served(NamedTuple):
    home: Path
    items: Path
    version: str
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("genres")
    version = load_version(write_genre_version(folder))
    home = folder / "home"
    store = sqlite_store(home / "feature_store", HISTORIES, [version.version])
    write_json(store / "versions.json", [version.version])
    port, admin_port = free_ports(2)
    config = ServingConfig(
        port=port, admin_port=admin_port, rollout=quick_rollout(ranking={"min_pairs": 10})
    )
    try:
        rollout(version.directory, home, config)
        yield Served(home, folder / "items.csv", version.version, f"127.0.0.1:{port}")
    finally:
        EmbeddedEndpoint(home, config).stop_all()


def refresh(home: Path, *arguments: str) -> Result:
    command = ["items", "refresh", *arguments]
    done = CliRunner().invoke(app, command, env={"KUBEREC_HOME": str(home), "COLUMNS": "120"})
    if done.exception is not None and not isinstance(done.exception, (KuberecError, SystemExit)):
        raise done.exception
    return done


def answer(done: Result) -> dict[str, Any]:
    assert done.exception is None
    return json.loads(done.stdout)


def recommended(url: str, history: list[str]) -> tuple[str, list[str]]:
    with RecommendClient(url) as client:
        found = client.recommend(history=history)
    return found.version, found.item_ids


def of_genre(genre: str) -> list[str]:
    return [item for place, item in enumerate(vocabulary()) if genre_of(place) == genre]


def test_new_items_are_recommended_for_histories_of_like_texts(served: Served) -> None:
    assert answer(refresh(served.home, "--json"))["new"] == []  # its own source has nothing new

    version, before = recommended(served.url, of_genre("space")[:3])
    assert (version, "n-space" in before) == (served.version, False)

    write_items(served.items, known_items() | NEW)
    told = refresh(served.home, "--dry-run")
    assert "3 new items" in told.stdout
    assert "n-sea  sea " in told.stdout
    assert not (served.home / "refreshed").exists()

    made = answer(refresh(served.home, "--json"))
    assert (made["parent"], made["new"]) == (served.version, list(NEW))
    assert made["rollout"]["timeline"]["status"] == "promoted"
    for genre in ("space", "sea", "west"):
        version, found = recommended(served.url, of_genre(genre)[:3])
        assert version == made["version"]
        assert f"n-{genre}" in found[:4]
    # A history of what nobody knew is understood: the rest of the genre, not what is popular.
    _, found = recommended(served.url, ["n-space"])
    assert set(found[:4]) <= set(of_genre("space"))


def test_a_refreshed_version_is_refreshed_again_with_its_lineage(served: Served) -> None:
    more = served.home.parent / "more.jsonl"
    more.write_text(json.dumps({"id": "n-love", "name": title("love", 103)}) + "\n")
    killed = [served.home / "refreshed" / ".refresh-killed", served.home / "tmp" / "refresh-killed"]
    for left in killed:
        left.mkdir()
    made = answer(refresh(served.home, "--items", str(more), "--no-rollout", "--json"))
    assert made["rollout"] is None
    assert not any(left.exists() for left in killed)
    version = load_version(Path(made["directory"]))
    lineage = read_json(version.directory / "kuberec.json")["items"]
    assert lineage["parent"] == made["parent"] != served.version
    assert lineage["added"] == [*NEW, "n-love"]
    assert lineage["trained"] == len(vocabulary())
    again = answer(refresh(served.home, "--items", str(more), "--no-rollout", "--json"))
    assert again["version"] == made["version"]
    answers = {golden.history[-1]: golden for golden in version.golden() if golden.history}
    assert set(answers["n-love"].item_ids[:4]) <= set(of_genre("love"))


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("id,title\nn9,Some Thing\n", (), "source.items"),
        ("id,name\nn9,\n", (), "missing title"),
        ("id,name\nn9,space rocket\nn9,love letter\n", (), "duplicate item_id"),
        ("id,name\nn8,space rocket\nn9,love letter\n", ("--max-new", "1"), "--max-new 2"),
    ],
)
def test_what_cannot_join_is_said_and_changes_nothing(
    served: Served, tmp_path: Path, content: str, arguments: tuple[str, ...], says: str
) -> None:
    file = tmp_path / "items.csv"
    file.write_text(content)
    state = (served.home / "serving" / "state.json").read_bytes()
    done = refresh(served.home, "--items", str(file), *arguments)
    assert isinstance(done.exception, KuberecError)
    assert says in str(done.exception)
    assert (served.home / "serving" / "state.json").read_bytes() == state


def test_without_a_version_it_says_what_makes_one(tmp_path: Path) -> None:
    done = refresh(tmp_path / "home")
    assert isinstance(done.exception, KuberecError)
    assert "kuberec run" in str(done.exception)
