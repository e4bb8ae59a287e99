"""The export step on a tiny ranker: what of the `serving` section a model version carries."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from recommender_data import random_model, vocabulary, write_vectors, write_windows

from components.export_version import export_version
from recommender.export import export_ranker
from recommender.files import read_json, write_json
from recommender.model import save_model

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
