"""The same inputs and settings give the same bytes, and so the same version."""

import shutil
from pathlib import Path

import pytest
from recommender_data import random_model, vocabulary, write_vectors, write_windows

from recommender.compression.compress import compress
from recommender.export import export_ranker
from recommender.files import read_json, sha256_tree, write_json
from recommender.model import save_model
from recommender.settings import CompressionConfig, DistilStep, ExportConfig, QuantiseStep
from serving.export import write_version
from serving.version import MANIFEST

CONFIG = ExportConfig(k=10, max_seen=20, golden_requests=6)

pytestmark = pytest.mark.timeout(180)


def compressed(folder: Path) -> Path:
    """What the compression leaves, of a model made anew."""
    (folder / "student").mkdir(parents=True)
    model = random_model()
    save_model(model, vocabulary(), folder / "student")
    export_ranker(model, folder / "ranker_fp32.onnx", CONFIG.k, CONFIG.max_seen)
    shutil.copyfile(folder / "ranker_fp32.onnx", folder / "ranker.onnx")
    write_json(folder / "ledger.json", {"rows": []})
    return folder


def test_a_compression_is_made_of_the_same_bytes_twice(tmp_path: Path) -> None:
    """What was measured, ledger.json, is not: times and memory are the machine's."""
    (tmp_path / "teacher").mkdir()
    save_model(random_model(), vocabulary(), tmp_path / "teacher")
    windows = write_windows(tmp_path / "w")
    student = DistilStep(dim=8, layers=1, heads=1, epochs=1, batch_size=16)
    budgets = CompressionConfig(
        steps=[student, QuantiseStep(qat="never", max_clipped=1.0)],
        max_quality_loss=1.0,
        min_size_ratio=0.01,
        min_speedup=0.001,
    )
    made = []
    for name in ("a", "b"):
        compress(tmp_path / "teacher", windows, budgets, CONFIG, tmp_path / name)
        made.append(sha256_tree(tmp_path / name))
    assert {"ranker.onnx", "ranker_fp32.onnx"} <= made[0].keys()
    assert {name for name in made[0] if made[0][name] != made[1][name]} <= {"ledger.json"}


def test_a_version_is_made_of_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = compressed(tmp_path / "c1"), compressed(tmp_path / "c2")
    assert sha256_tree(first) == sha256_tree(second)
    windows, vectors = write_windows(tmp_path / "w"), write_vectors(tmp_path / "vectors")
    made = [
        write_version(tmp_path / name, folder, windows, vectors, CONFIG, {"config": {}})
        for name, folder in (("a", first), ("b", second))
    ]
    assert made[0].version == made[1].version
    assert made[0].files == made[1].files  # graphs, configs, warm-up, golden.json
    stated = [read_json(tmp_path / name / MANIFEST) for name in ("a", "b")]
    assert {key for key in stated[0] if stated[0][key] != stated[1][key]} <= {"created"}
