"""Each model's graph exported once a process: torch's exporter takes seconds of any model."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from recommender.compression import graphs
from recommender.export import export_ranker
from recommender.model import SequentialRecommender

_folder = tempfile.TemporaryDirectory(prefix="exported-")
_known: dict[str, Path] = {}


def exported_once(model: SequentialRecommender, path: Path, *settings: Any) -> None:
    """`export_ranker`, whose result is copied where the same model was exported before."""
    digest = hashlib.sha256(repr((model.config, settings)).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    key = digest.hexdigest()
    if key not in _known:
        target = Path(_folder.name) / f"{key}.onnx"
        export_ranker(model, target, *settings)
        _known[key] = target
    shutil.copyfile(_known[key], path)


@pytest.fixture(scope="module", autouse=True)
def exports_once():
    """For modules that import it: compression takes each model's graph from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "export_ranker", exported_once)
        yield
