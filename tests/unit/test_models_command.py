"""`kuberec models` on a store of this machine, with a version of it that serves."""

import json

import pytest
from tracked_models import registered
from typer.testing import CliRunner

from components.step import HOME_VARIABLE
from pipelines.models import app
from recommender.errors import KuberecError
from recommender.files import write_json
from tracking.registry import set_alias
from tracking.settings import TrackingConfig
from tracking.store import open_store


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two versions, the first one is champion and serves, as one with new items."""
    home = tmp_path_factory.mktemp("home")
    store = open_store(TrackingConfig(experiment="films", model="films"), home)
    one = registered(store, home / "one", "aaaa00000001", 0.3)
    registered(store, home / "two", "bbbb00000002", 0.4, learning_rate=0.02)
    set_alias(store, one.number, "champion")
    tracking = {"model": "films", "registered": "1", "run": one.run}
    refreshed = home / "serving" / "versions" / "cccc00000003"
    refreshed.mkdir(parents=True)
    write_json(refreshed / "kuberec.json", {"version": refreshed.name, "tracking": tracking})
    write_json(home / "serving" / "state.json", {"current": refreshed.name})
    return home


@pytest.fixture
def models(home, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def test_list_says_who_is_best_and_who_serves(models):
    new, old = json.loads(models("list", "--json"))
    assert (new["registered"], new["version"], new["ndcg@10"]) == ("2", "bbbb00000002", 0.4)
    assert (old["aliases"], old["serves_as"]) == (["champion"], ["cccc00000003"])
    assert new["serves_as"] == []
    assert old["interval"] == pytest.approx([0.29, 0.31])


def test_current_leads_back_to_the_data_also_of_a_version_with_new_items(models):
    found = json.loads(models("show", "current", "--json"))
    assert found["version"] == "aaaa00000001"
    assert found["snapshot"]["kept"]["events"] == 97
    assert json.loads(models("lineage", "cccc00000003", "--json")) == found


def test_compare_shows_what_differs(models):
    found = json.loads(models("compare", "current", "2", "--json"))
    assert found["settings"] == [{"key": "training.learning_rate", "values": [0.01, 0.02]}]
    assert [each["registered"] for each in found["versions"]] == ["1", "2"]


def test_tables_for_people_hold_the_same(models, monkeypatch):
    from rich.console import Console

    console = Console(width=200)
    monkeypatch.setattr("pipelines.models.console", console)
    for arguments, shown in (
        (["list"], ["bbbb00000002", "0.4000 (0.3900 to 0.4100)", "cccc00000003"]),
        (["show"], ["events.csv: 100 read, 97 kept, 3 rejected", "f" * 64]),
        (["compare", "1", "2"], ["training.learning_rate", "+0.1000", "fewer than 20 events"]),
    ):
        with console.capture() as capture:
            models(*arguments)
        text = capture.get()
        for each in shown:
            assert each in text


def test_promote_moves_an_alias_and_says_what_to_run(models, home, monkeypatch):
    from rich.console import Console

    console = Console(width=200)
    monkeypatch.setattr("pipelines.models.console", console)
    with console.capture() as capture:
        models("promote", "2", "--alias", "shadow")
    assert "version 2 (bbbb00000002) of 'films' is shadow now" in capture.get()
    assert f"run {home / 'two' / 'config.yaml'}" in capture.get()
    assert "shadow" in json.loads(models("list", "--json"))[0]["aliases"]
    with pytest.raises(KuberecError, match="--alias '7': allowed"):
        models("promote", "2", "--alias", "7")


def test_errors_teach(models, home, tmp_path, monkeypatch):
    with pytest.raises(KuberecError, match="no version 'best'"):
        models("show", "best")
    with pytest.raises(KuberecError, match=r"'books' is not registered.*registered: films"):
        models("list", "--model", "books")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "new"))
    with pytest.raises(KuberecError, match="nothing is tracked in"):
        models("list")
    assert not (tmp_path / "new").exists()
