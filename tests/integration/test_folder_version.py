"""A catalogue whose float32 graphs are too large for one file: folders, all the way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recommender_data import random_model, vocabulary, write_vectors, write_windows

from benchmarks.subject import find_student
from feature_repo.store import service_name
from recommender import onnx_export
from recommender.compression.candidate import Candidate, Work
from recommender.compression.graphs import write_graphs
from recommender.errors import KuberecError
from recommender.files import read_json, write_json
from recommender.model import save_model
from recommender.settings import ExportConfig
from serving.export import write_version
from serving.handover import answers
from serving.item_map import load_item_map
from serving.kubernetes.model_store import fetch_published, publish
from serving.refresh import new_rows
from serving.triton.engine import typed_file
from serving.triton.engine.build import golden_inputs
from serving.triton.engine.graph import write_typed
from serving.triton.engine.plan import plan_engine
from serving.triton.engine.record import EngineError
from serving.triton.repository import GPU_GRAPH, graph_path
from serving.version import MANIFEST, ModelVersion, VersionError, load_version

EXPORT = ExportConfig(k=10, max_seen=20, golden_requests=6)
RANKERS = ("model.onnx", "gpu.onnx")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def version(home: Path) -> ModelVersion:
    compressed = home / "runs" / "compressed"
    (compressed / "student").mkdir(parents=True)
    model = random_model()
    save_model(model, vocabulary(), compressed / "student")
    write_json(compressed / "ledger.json", {"rows": []})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "EXTERNAL_BYTES", 0)
        write_graphs(Candidate(model), Work(model, {}, EXPORT, compressed), compressed)
    assert (compressed / "ranker.onnx").is_dir()
    windows, vectors = write_windows(home / "windows"), write_vectors(home / "vectors")
    return write_version(home / "v", compressed, windows, vectors, EXPORT, {"config": {}})


def test_it_is_sealed_with_every_file_of_its_folders(version: ModelVersion) -> None:
    """Triton has answered from them by then: that is one of the parity's links."""
    for ranker in RANKERS:
        for name in ("model.onnx", "weights.bin"):
            assert f"ranker/1/{ranker}/{name}" in version.files
    assert load_version(version.directory).version == version.version
    links = {row["link"] for row in read_json(version.directory / MANIFEST)["parity"]}
    assert links == {"onnx", "served", "triton"}
    assert len(version.golden()) == 6
    weights = version.directory / "ranker/1/gpu.onnx/weights.bin"
    before = weights.read_bytes()
    weights.write_bytes(bytes([before[0] ^ 1]) + before[1:])
    with pytest.raises(VersionError, match=r"changed: ranker/1/gpu\.onnx/weights\.bin"):
        version.verify()
    weights.write_bytes(before)


def test_it_is_published_whole(version: ModelVersion, tmp_path: Path) -> None:
    registry = tmp_path / "registry.db"
    registry.write_bytes(service_name(version.version).encode())
    (tmp_path / "mount").mkdir()
    uri = publish(version.directory, registry, "pvc://claim/models", tmp_path / "mount")
    found = load_version(fetch_published(uri, tmp_path / "mount", tmp_path))
    assert found.files == version.files


def test_its_engine_is_made_of_one_file_or_refused(
    version: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = tmp_path / "typed.onnx"
    plan = plan_engine(version, "fp32")
    assert plan.exact == graph_path(version.directory, "ranker", GPU_GRAPH)
    write_typed(plan, typed)
    inputs = golden_inputs(version)
    found, expected = answers(typed, *inputs), answers(plan.exact, *inputs)
    np.testing.assert_array_equal(found.scores_BK, expected.scores_BK)
    monkeypatch.setattr(typed_file, "LARGEST", 4096)
    for precision, way in (("fp32", "take fp16 or bf16"), ("fp16", "distil the model")):
        with pytest.raises(EngineError, match=rf"^{precision}: the ranker's weights .* {way}"):
            write_typed(replace(plan, precision=precision), tmp_path / "not.onnx")
        assert not (tmp_path / "not.onnx").exists()


def test_new_items_are_refused_and_no_boost_is_sought_for_them(
    version: ModelVersion, home: Path
) -> None:
    item_map = load_item_map(version, {})
    assert "calibrated" not in item_map.about
    ranker = graph_path(version.directory, "ranker")
    with pytest.raises(KuberecError, match=r"too large for one ONNX file.* train again"):
        new_rows(item_map, home / "vectors", set(), ranker)


def test_its_student_is_found(version: ModelVersion, home: Path) -> None:
    runs = home / "runs"
    assert find_student(home, runs, version) == runs / "compressed" / "student"
