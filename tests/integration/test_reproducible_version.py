"""The same inputs and settings give the same bytes, and so the same version."""

import shutil
from pathlib import Path

import pytest
from recommender_data import random_model, vocabulary, write_vectors, write_windows

from recommender.export import export_ranker
from recommender.files import read_json, sha256_tree, write_json
from recommender.model import save_model
from recommender.settings import ExportConfig
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
