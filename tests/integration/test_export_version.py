"""The export step on a tiny ranker: what a model version carries, and its place in the registry."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from recommender_data import random_model, vocabulary, write_vectors, write_windows
from tracked_models import SNAPSHOT, trained

from components.export_version import export_version
from components.step import HOME_VARIABLE
from recommender.export import export_ranker
from recommender.files import read_json, write_json
from recommender.model import save_model
from serving.version import load_version
from tracking.registry import by_alias, versions
from tracking.settings import TrackingConfig
from tracking.store import open_store
from tracking.versions import mark

EXPORT = {"k": 10, "max_seen": 20, "golden_requests": 6}
FINGERPRINTS = {
    f"{name}_fingerprint": name
    for name in ("data", "windows", "vectors", "model", "compressed", "evaluation")
}
UNTRACKED = {"tracking": {"enabled": False}, "tracking_run": ""}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimpleNamespace]:
    """Artifacts of the steps before; the ranker is not quantised."""
    root = tmp_path_factory.mktemp("inputs")
    compressed = root / "compressed"
    (compressed / "student").mkdir(parents=True)
    model = random_model()
    save_model(model, vocabulary(), compressed / "student")
    export_ranker(model, compressed / "ranker_fp32.onnx", EXPORT["k"], EXPORT["max_seen"])
    shutil.copyfile(compressed / "ranker_fp32.onnx", compressed / "ranker.onnx")
    write_json(compressed / "ledger.json", [])
    write_json(root / "evaluation.json", {"test": {"model": {"ndcg@10": 0.5}}})
    return {
        "snapshot": SimpleNamespace(path=str(root / "snapshot")),
        "trained_model": SimpleNamespace(path=str(root / "trained")),
        "windows": SimpleNamespace(path=str(write_windows(root / "windows"))),
        "item_vectors": SimpleNamespace(path=str(write_vectors(root / "item_vectors"))),
        "compressed": SimpleNamespace(path=str(compressed)),
        "evaluation_report": SimpleNamespace(path=str(root / "evaluation.json")),
    }


def test_triton_settings_are_in_the_version_and_in_its_name(
    inputs: dict[str, SimpleNamespace], tmp_path: Path
) -> None:
    def export(name: str, serving: dict) -> str:
        sections = ("source", "text", "features", "model", "training", "compression")
        found = export_version.python_func(
            **{section: {} for section in sections},
            export=EXPORT,
            serving=serving,
            **UNTRACKED,
            **FINGERPRINTS,
            model_version=SimpleNamespace(path=str(tmp_path / name), uri=name),
            export_report=SimpleNamespace(path=str(tmp_path / f"{name}.json")),
            **inputs,
        )
        return found.version

    version = export("a", {"port": 8000, "triton": {"max_batch_size": 8}})
    config = (tmp_path / "a/ranker/config.pbtxt").read_text()
    assert "max_batch_size: 8\n" in config
    assert "batch_size: 8\n" in config
    stated = read_json(tmp_path / "a/kuberec.json")["config"]["serving"]
    assert set(stated) == {"triton"}
    assert stated["triton"]["max_batch_size"] == 8
    # Another port is the same version, another batch size is not.
    assert export("b", {"port": 9000, "triton": {"max_batch_size": 8}}) == version
    assert export("c", {"port": 8000, "triton": {"max_batch_size": 16}}) != version


def test_a_version_is_registered_once_its_checks_passed_and_says_so(
    inputs: dict[str, SimpleNamespace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a training that could not be written down before: the export does that too."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    trained(Path(inputs["trained_model"].path))
    (tmp_path / "snapshot").mkdir()
    write_json(tmp_path / "snapshot" / "snapshot.json", SNAPSHOT)
    here = inputs | {"snapshot": SimpleNamespace(path=str(tmp_path / "snapshot"))}
    tracking = {"model": "films", "experiment": "films"}

    def export(name: str, tracking: dict, **limits: float) -> str:
        sections = ("source", "text", "features", "model", "training", "compression", "serving")
        return export_version.python_func(
            **{section: {} for section in sections},
            export=EXPORT | limits,
            tracking=tracking,
            tracking_run="",
            **FINGERPRINTS,
            model_version=SimpleNamespace(path=str(tmp_path / name), uri=name),
            export_report=SimpleNamespace(path=str(tmp_path / f"{name}.json")),
            **here,
        ).version

    assert export("refused", tracking, parity={"onnx": {"max_score_difference": 1e-30}}) == ""
    store = open_store(TrackingConfig.model_validate(tracking), tmp_path / "home")
    assert versions(store) == []
    version = export("a", tracking)
    (found,) = versions(store)
    said = read_json(tmp_path / "a/kuberec.json")["tracking"]
    assert (said["model"], said["registered"], said["run"]) == ("films", "1", found.run)
    assert (found.version, found.aliases) == (version, ())
    assert found.tags["data_fingerprint"] == FINGERPRINTS["data_fingerprint"]
    load_version(tmp_path / "a")  # as sealed
    mark(store, tmp_path / "a", "candidate", pytest.fail)
    assert by_alias(store, "candidate").number == "1"
    assert (
        export("untracked", {"enabled": False}) == version
    )  # where it is written names no version
