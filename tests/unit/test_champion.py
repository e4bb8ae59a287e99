"""The alias `champion` after a change of what serves, in a real store: SQLite in a state home."""

import sqlite3
from pathlib import Path

import pytest
import rollout_records as records
from rich.console import Console
from rollout_target import MemoryTarget
from tracked_models import registered

from components.champion import mark_serving, serves_after
from pipelines import rollout as command
from recommender.files import write_json
from serving.ports import free_ports
from serving.rollout.record import Rollout
from tracking.champion import follow
from tracking.registry import Registered, by_alias, set_alias
from tracking.settings import TrackingConfig
from tracking.store import open_store

SECTION = TrackingConfig(experiment="films", model="films")


class Place:
    """A home with two registered versions that are installed; the first is champion."""

    def __init__(self, home: Path, models: Path) -> None:
        self.home = home
        self.store = open_store(SECTION, home)
        self.told: list[str] = []
        self.warned: list[str] = []
        self.old = self._make(models, "aaaa00000001")
        self.new = self._make(models, "bbbb00000002")
        set_alias(self.store, self.old.number, "champion")

    def _make(self, models: Path, version: str) -> Registered:
        found = registered(self.store, models / version, version)
        write_json(self.folder(version) / "kuberec.json", manifest(found))
        return found

    def folder(self, version: str) -> Path:
        path = self.home / "serving" / "versions" / version
        path.mkdir(parents=True, exist_ok=True)
        return path

    def champion(self) -> str:
        found = by_alias(self.store, "champion")
        assert found is not None
        return found.version

    def serves(self, version: str, section: TrackingConfig | None = None) -> None:
        mark_serving(version, self.home, self.told.append, self.warned.append, section=section)


def manifest(found: Registered, **tracking: str) -> dict:
    said = {"model": found.model, "registered": found.number, "run": found.run}
    said |= {"experiment": "films", "uri": ""}
    return {"version": found.version, "tracking": said | tracking}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Place:
    return Place(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def place(made, monkeypatch) -> Place:
    """The same store for all, as it was in the beginning."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made.told, made.warned = [], []
    set_alias(made.store, made.old.number, "champion")
    return made


def test_who_serves_is_champion_there_and_back(place):
    place.serves("bbbb00000002")
    assert place.champion() == "bbbb00000002"
    place.serves("aaaa00000001")
    assert place.champion() == "aaaa00000001"
    place.serves("aaaa00000001")  # who is it already is no news
    assert place.told == [
        "version 2 (bbbb00000002) of 'films' is champion now (it was version 1, aaaa00000001)",
        "version 1 (aaaa00000001) of 'films' is champion now (it was version 2, bbbb00000002)",
    ]
    assert place.warned == []


def test_a_cluster_names_the_id_alone_and_the_section_the_registry(place):
    cluster = {"version": "bbbb00000002"}
    follow(cluster, place.home, place.told.append, place.warned.append, SECTION)
    assert place.champion() == "bbbb00000002"
    off = SECTION.model_copy(update={"enabled": False})
    follow({"version": "aaaa00000001"}, place.home, print, place.warned.append, off)
    assert place.champion() == "bbbb00000002"
    assert place.warned == []


def test_the_home_that_made_it_is_asked_whatever_server_the_environment_names(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_ports(1)[0]}")
    place.serves("bbbb00000002")
    assert place.champion() == "bbbb00000002"


def test_a_version_with_new_items_makes_its_parent_champion(place):
    refreshed = manifest(place.new) | {"version": "cccc00000003"}
    write_json(place.folder("cccc00000003") / "kuberec.json", refreshed)
    place.serves("cccc00000003")
    assert place.champion() == "bbbb00000002"


def test_a_server_that_does_not_answer_is_a_warning_with_the_command_for_later(place):
    uri = f"http://127.0.0.1:{free_ports(1)[0]}"
    there = manifest(place.new, uri=uri)
    follow(there, place.home, place.told.append, place.warned.append)
    (warning,) = place.warned
    assert "version bbbb00000002 serves, but is not marked as champion" in warning
    assert uri in warning
    assert f"MLFLOW_TRACKING_URI={uri} kuberec models promote 2 --model films" in warning
    assert place.told == []


def test_a_broken_store_is_a_warning_too(place, tmp_path):
    (tmp_path / "mlflow").mkdir()
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('of another MLflow')")
    follow(manifest(place.new), tmp_path, place.told.append, place.warned.append)
    assert "kuberec models promote 2 --model films" in place.warned[0]


@pytest.mark.parametrize("text", ["", "not JSON", '{"version": "another"}'])
def test_what_is_unknown_is_told_and_leaves_the_champion(place, tmp_path, text):
    (place.folder("dddd00000004") / "kuberec.json").write_text(text)
    place.serves("dddd00000004")
    assert "dddd00000004 serves, but is not marked as champion" in place.warned[0]
    assert "without tracking" in place.warned[0]
    place.serves("dddd00000004", SECTION)
    assert "no such version" in place.warned[1]
    assert place.champion() == "aaaa00000001"


def test_a_home_in_which_nothing_is_tracked_is_left_alone(place, tmp_path):
    follow({"version": "v1"}, tmp_path, place.told.append, place.warned.append, SECTION)
    assert place.warned == place.told == []
    assert not list(tmp_path.iterdir())
    follow(manifest(place.new), tmp_path, place.told.append, place.warned.append)
    assert f"'{tmp_path}' has none" in place.warned[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "first", "then"),
    [("promote", "old", "new"), ("abort", "new", "old")],
)
def test_an_operators_decision_about_a_held_rollout_counts(place, monkeypatch, what, first, then):
    """Whoever was champion: of an abort it can be the canary only by hand."""
    set_alias(place.store, getattr(place, first).number, "champion")
    target = MemoryTarget()
    target.stable, target.canary = place.old.version, place.new.version
    held = records.held_blind()
    held.stable, held.canary = place.old.version, place.new.version
    target.percent = held.percent
    target.save(held)
    monkeypatch.setattr("pipelines.rollout_target.find_target", lambda *_: target)
    monkeypatch.setattr(command, "state_home", lambda: place.home)
    console = Console(width=200)
    monkeypatch.setattr(command, "console", console)
    with console.capture() as capture:
        command._decide(what, command.Where.EMBEDDED, None, None)
    assert place.champion() == getattr(place, then).version
    assert f"is champion now (it was version {getattr(place, first).number}" in capture.get()


def test_a_rollout_that_is_undecided_or_somebody_elses_says_nothing_of_who_serves():
    def after(make) -> str | None:
        rollout: Rollout = make()
        return serves_after(rollout)

    assert [after(make) for make in records.ALL] == ["new", "old", "old", None, None, None]
