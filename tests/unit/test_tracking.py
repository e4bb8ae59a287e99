"""Trainings and versions in a real store: SQLite in a state home."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError
from tracked_models import (
    FINGERPRINTS,
    INPUTS,
    SECTIONS,
    SNAPSHOT,
    curves,
    evaluation,
    registered,
    trained,
)

from recommender.files import write_json
from serving.ports import free_ports
from tracking import source_code
from tracking.compare import compared
from tracking.lineage import trace
from tracking.names import name
from tracking.registry import by_alias, champion, find, set_alias, versions
from tracking.runs import KEY_TAG, completed, log_evaluation, training_run
from tracking.settings import TrackingConfig
from tracking.source_code import REVISION_VARIABLE, code_tags
from tracking.store import Store, TrackingError, exists, open_store, store_of
from tracking.versions import mark, registered_version


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def store(home) -> Store:
    """Making the tables takes a second or more, so all tests have one store, each its own model."""
    assert not exists(TrackingConfig(), home)
    found = open_store(TrackingConfig(experiment="trainings"), home)
    assert exists(TrackingConfig(), home)
    return found


@pytest.fixture
def named(store, request) -> Store:
    """The store with a model and an experiment of the test's own."""
    own = TrackingConfig().named(request.node.name.replace("/", "-"))
    return Store(store.client, store.uri, own.experiment, own.model, store.home)


def history(store: Store, run: str, metric: str) -> list[tuple[int, float]]:
    rows = store.client.get_metric_history(run, metric)
    return sorted((row.step, pytest.approx(row.value)) for row in rows)


def test_a_training_is_written_down_with_what_made_it(named, tmp_path):
    with training_run(named, "key", SECTIONS, INPUTS) as run:
        for row in curves(2):
            run.log(int(row["epoch"]), row)
        assert history(named, run.id, "curves/ndcg_at_10") == [(0, 0.1), (1, 0.2)]  # while it runs
        run.finish(trained(tmp_path / "model"))
    found = named.client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params["training.learning_rate"] == "0.01"
    assert found.data.params["training.seed"] == "1"
    assert found.data.metrics["best/ndcg_at_10"] == pytest.approx(0.3)
    assert len(history(named, run.id, "curves/train_loss")) == 3  # a row that nobody logged, too
    assert {"git.sha", "git.dirty"} <= found.data.tags.keys()
    datasets = {each.dataset.name: each.dataset.digest for each in found.inputs.dataset_inputs}
    assert datasets == {name: value[:36] for name, value in INPUTS.items()}
    files = {each.path for each in named.client.list_artifacts(run.id, "model")}
    assert files == {"model/training.json", "model/vocabulary.json"}


def test_a_killed_training_goes_on_in_its_run(named, tmp_path):
    first = training_run(named, "key", SECTIONS, INPUTS)
    run = first.__enter__()  # and never ended: kill -9
    run.log(0, curves(1)[0])
    with training_run(named, "another key", SECTIONS, INPUTS) as other:
        assert other.id != run.id
    with pytest.raises(KeyboardInterrupt), training_run(named, "key", SECTIONS, INPUTS):
        raise KeyboardInterrupt
    assert named.client.get_run(run.id).info.status == "KILLED"
    with training_run(named, "key", SECTIONS, INPUTS) as again:
        for row in curves(3):  # its checkpoint was lost: epochs come again
            again.log(int(row["epoch"]), row)
        again.finish(trained(tmp_path / "model"))
    assert again.id == run.id
    assert history(named, run.id, "curves/train_loss") == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert named.client.get_run(run.id).info.status == "FINISHED"
    with training_run(named, "key", SECTIONS, INPUTS) as anew:
        assert anew.id != run.id  # a second training of the same settings is a run of its own


def test_a_run_that_was_opened_and_no_more_is_filled_when_its_training_goes_on(named):
    opened = named.client.create_run(named.experiment_id(), tags={KEY_TAG: "key"}).info.run_id
    with training_run(named, "key", SECTIONS, INPUTS) as run:
        assert run.id == opened
    with pytest.raises(KeyboardInterrupt), training_run(named, "key", SECTIONS, INPUTS):
        raise KeyboardInterrupt  # and once more, which adds nothing twice
    found = named.client.get_run(opened)
    assert found.data.params["training.seed"] == "1"
    assert len(found.inputs.dataset_inputs) == len(INPUTS)


def test_what_fails_says_why(named):
    with pytest.raises(ValueError, match="diverged"), training_run(named, "k", {}, {}) as run:
        raise ValueError("diverged")
    found = named.client.get_run(run.id)
    assert (found.info.status, found.data.tags["kuberec.ended"]) == ("FAILED", "diverged")


@pytest.mark.parametrize("lost", ["never written", "deleted"])
def test_a_training_that_the_store_lacks_is_written_before_its_version_is(named, tmp_path, lost):
    model, run = trained(tmp_path / "model"), ""
    if lost == "deleted":
        with training_run(named, "key", SECTIONS, INPUTS) as opened:
            run = opened.id
        named.client.delete_run(run)
    found = completed(named, run, "key", SECTIONS, INPUTS, model)
    assert found not in ("", run)
    assert len(history(named, found, "curves/train_loss")) == 3
    assert completed(named, found, "key", SECTIONS, INPUTS, model) == found


def test_metrics_of_an_evaluation_have_names_that_mlflow_takes(named, tmp_path):
    write_json(tmp_path / "evaluation.json", evaluation(0.3))
    with training_run(named, "key", {}, {}) as run:
        log_evaluation(named, run.id, tmp_path / "evaluation.json")
    found = named.client.get_run(run.id).data.metrics
    assert found["test/ndcg_at_10"] == pytest.approx(0.3)
    assert found["valid/ndcg_at_10"] == pytest.approx(0.31)
    assert found["test/item-knn/ndcg_at_10"] == pytest.approx(0.05)
    assert found["test/ndcg_at_10/low"] == pytest.approx(0.29)
    assert found["slice/activity/fewer than 20 events/ndcg_at_10"] == pytest.approx(0.15)
    assert "test/mrr" not in found
    assert name("item popularity: (head)") == "item popularity: _head_"


def test_the_champion_is_who_was_promoted_last_and_the_old_one_stays(named, tmp_path):
    assert champion(named) is None
    one = registered(named, tmp_path / "one", "aaaa00000001", 0.3)
    two = registered(named, tmp_path / "two", "bbbb00000002", 0.4)
    assert (one.number, two.number) == ("1", "2")
    assert set_alias(named, one.number, "champion") is None
    assert set_alias(named, two.number, "champion") == "1"
    found = champion(named)
    assert (found.version, found.name) == ("2", "bbbb00000002")
    assert (found.model_dir() / "vocabulary.json").read_text() == (
        tmp_path / "two/model/vocabulary.json"
    ).read_text()
    assert [(each.number, each.aliases) for each in versions(named)] == [
        ("2", ("champion",)),
        ("1", ()),
    ]


def test_a_version_that_comes_again_keeps_its_number(named, tmp_path):
    one = registered(named, tmp_path / "one", "aaaa00000001")
    manifest = {"version": one.version, "tracking": {"model": one.model, "registered": "1"}}
    manifest["tracking"]["run"] = one.run
    folder = tmp_path / "version"
    folder.mkdir()
    write_json(folder / "kuberec.json", manifest)
    said: list[str] = []
    mark(named, folder, "candidate", said.append)
    assert by_alias(named, "candidate").number == "1"
    # With new items it is another version, whose manifest is its parent's.
    assert registered_version(named, manifest | {"version": "cccc00000003"}).number == "1"
    # A number that another registry gave is another version's here.
    foreign = {"version": "dddd00000004", "tracking": manifest["tracking"] | {"run": "another"}}
    assert registered_version(named, foreign) is None
    write_json(folder / "kuberec.json", foreign)
    mark(named, folder, "champion", said.append)
    assert by_alias(named, "champion") is None
    assert "dddd00000004 is not registered" in said[0]


def test_a_version_is_found_by_number_alias_or_the_head_of_its_id(named, tmp_path):
    with pytest.raises(TrackingError, match="has no versions"):
        find(named, "1")
    one = registered(named, tmp_path / "one", "aaaa00000001")
    two = registered(named, tmp_path / "two", "aaaa00000002")
    set_alias(named, one.number, "champion")
    assert find(named, "champion").number == find(named, "1").number == "1"
    assert find(named, "aaaa00000002").number == two.number
    with pytest.raises(TrackingError, match=r"can be any of aaaa00000002 \(2\), aaaa00000001"):
        find(named, "aaaa")
    with pytest.raises(TrackingError, match=r"no version 'best'.*1/aaaa00000001/champion"):
        find(named, "best")


def test_a_home_that_was_moved_still_has_its_models(named, tmp_path):
    one = registered(named, tmp_path / "one", "aaaa00000001")
    set_alias(named, one.number, "champion")
    shutil.copytree(named.home / "mlflow", tmp_path / "moved" / "mlflow")
    section = TrackingConfig(experiment=named.experiment, model=named.model)
    moved = champion(open_store(section, tmp_path / "moved")).model_dir()
    assert moved.is_relative_to(tmp_path / "moved")
    assert (moved / "training.json").is_file()


def test_the_way_back_to_the_data(named, tmp_path):
    one = registered(named, tmp_path / "one", "aaaa00000001")
    found = trace(named, one)
    assert found.fingerprints == FINGERPRINTS
    assert str(found.config["training"]["seed"]) == "1"  # and not 1.0, as a pipeline has it
    assert found.snapshot["tables"] == {"events": "events.csv", "items": "items.csv"}
    assert found.snapshot["kept"] == SNAPSHOT["kept"]
    assert found.snapshot["rejected"] == {"events": 3, "items": 0}
    assert found.run["best_epoch"] == 2
    assert not found.lost
    (named.artifacts(one.run, "versions/aaaa00000001/snapshot.json")).unlink()
    again = trace(named, one)
    assert again.snapshot == {}
    assert "snapshot.json" in again.lost[0]


def test_two_versions_side_by_side(named, tmp_path):
    one = registered(named, tmp_path / "one", "aaaa00000001", 0.3)
    two = registered(named, tmp_path / "two", "bbbb00000002", 0.4, learning_rate=0.02)
    found = compared(named, one, two)
    assert found["settings"] == [{"key": "training.learning_rate", "values": [0.01, 0.02]}]
    assert found["data"] == []
    assert {"metric": "ndcg@10", "values": [0.3, 0.4]} in found["metrics"]
    (row,) = found["slices"]
    assert row == {"values": [0.15, 0.2], "by": "activity", "slice": "fewer than 20 events"}
    ends = {row["of"]: row["values"] for row in found["curves"]}
    assert ends["epochs"] == [3, 3]
    assert ends["best validation NDCG@10"] == [pytest.approx(0.3)] * 2


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://someone:secret@mlflow.test", "credentials do not belong"),
        ("sqlite:///here.db", "allowed: http"),
        ("mlflow.test:5000", "allowed: http"),
    ],
)
def test_an_address_is_a_servers_and_has_no_credentials(uri, why, tmp_path, monkeypatch):
    with pytest.raises(ValidationError, match=why):
        TrackingConfig(uri=uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match=why):
        open_store(TrackingConfig(), tmp_path)


def test_a_server_that_does_not_answer_ends_the_run_if_it_is_required(tmp_path):
    section = {"uri": f"http://127.0.0.1:{free_ports(1)[0]}"}
    said: list[str] = []
    with pytest.raises(TrackingError, match=r"(?s)tracking\.uri.*tracking\.required=false"):
        store_of(section, tmp_path, said.append)
    assert store_of(section | {"required": False}, tmp_path, said.append) is None
    assert said[0].startswith("not tracked: MLflow at http://127.0.0.1")
    with training_run(None, "key", {}, {}) as run:  # as steps go on then
        run.log(0, {})
        run.finish(tmp_path)
    assert run.id == ""
    assert store_of({"enabled": False}, tmp_path, said.append) is None


def test_the_code_is_named_by_its_commit(tmp_path, monkeypatch):
    monkeypatch.setenv(REVISION_VARIABLE, "abc-dirty")
    of_image = {"git.sha": "abc", "git.dirty": "true", "mlflow.source.git.commit": "abc"}
    if (source_code.ROOT / ".git").exists():  # not in a release archive
        assert code_tags()["git.sha"] != "abc"
    monkeypatch.setattr(source_code, "ROOT", tmp_path)
    assert code_tags() == of_image
    monkeypatch.delenv(REVISION_VARIABLE)
    assert code_tags() == {"git.sha": "unknown", "git.dirty": "unknown"}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    clean = code_tags()
    assert len(clean["git.sha"]) == 40
    assert clean["git.dirty"] == "false"
    (tmp_path / "new").touch()
    assert code_tags()["git.dirty"] == "true"
