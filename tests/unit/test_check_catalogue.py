"""Settings that the number of items rules out: said before training, by a step of its own."""

from types import SimpleNamespace

import onnx
import pytest
from onnx import numpy_helper
from recommender_data import ITEMS, TINY, random_model, vocabulary, write_windows

from components.check_catalogue import check_catalogue as component
from recommender import onnx_export
from recommender.compression.catalogue import check_catalogue, item_bytes
from recommender.compression.compress import compress
from recommender.errors import KuberecError
from recommender.export import export_ranker
from recommender.files import write_json
from recommender.large_catalogue import export_two_stage
from recommender.model import save_model
from recommender.settings import CompressionConfig, ExportConfig, ModelConfig
from recommender.settings.compression import Step
from recommender.settings.export import TwoStageConfig

DISTIL, PRUNE = {"step": "distil", "dim": 8, "heads": 1}, {"step": "prune", "layers": 1}
INT8, HALF = {"step": "quantise"}, {"step": "quantise", "precision": "float16"}
BYTES = {"step": "quantise-items", "kind": "int8-rows"}
CODES = {"step": "quantise-items", "kind": "pq", "subvectors": 4, "centroids": 8}
TWO_STAGE = {"scoring": "two-stage"}


def steps(*each: dict[str, object]) -> list[Step]:
    return CompressionConfig.model_validate({"steps": list(each)}).steps


def check(*each: dict[str, object], items: int = ITEMS, **export: object) -> None:
    exported = ExportConfig.model_validate({"k": 10, "max_seen": 20} | export)
    check_catalogue(steps(*each), TINY, exported, items)


def test_lists_and_codebooks_longer_than_the_catalogue() -> None:
    with pytest.raises(KuberecError, match=r"^export\.k = 31 is more than the 30 items: lower it"):
        check(k=ITEMS + 1)
    check(k=ITEMS)
    many = CODES | {"centroids": 31}
    with pytest.raises(KuberecError, match=r"steps\.1 \(quantise-items\): centroids = 31 .* 30 it"):
        check(PRUNE, many)
    check(PRUNE, CODES | {"centroids": 30})


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file holds the tables of 30 items of 8 numbers, and not of 16."""
    monkeypatch.setattr(onnx_export, "EXTERNAL_BYTES", 8 * ITEMS * 9)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("each", "export", "says"),
    [
        ([INT8], {}, r"steps\.0 \(quantise\): .* 30 items of dim 16 are 3,840 bytes .* set export"),
        ([PRUNE, HALF], {}, r"steps\.1 .* leave out compression\.steps\.1 \(its items are bytes"),
        ([BYTES, PRUNE], {}, r"steps\.0 \(quantise-items\): .* distil it before .* dim 9 or less"),
        ([PRUNE, CODES, INT8], {}, r"steps\.1 .* leave out compression\.steps\.1 \("),
        ([INT8, DISTIL], {}, r"steps\.0 \(quantise\): .* or distil it before this step to dim 9"),
        ([DISTIL | {"dim": 12}, INT8], {}, r"steps\.1 \(quantise\): .* dim 12 are 2,880 bytes"),
    ],
)
def test_a_graph_too_large_to_be_made_smaller(each, export, says) -> None:
    """Also where it is distilled to less behind the step: each step's graph is written."""
    with pytest.raises(KuberecError, match=says):
        check(*each, **export)


@pytest.mark.usefixtures("small_files")
def test_what_is_small_enough_or_left_as_it_is() -> None:
    check(DISTIL, INT8, CODES)
    check(PRUNE, DISTIL | {"dim": 16, "heads": 2})  # a graph beyond one file is served as a folder
    check(PRUNE, INT8, **TWO_STAGE)  # 480 bytes
    with pytest.raises(KuberecError, match=r"set export\.two_stage\.int8"):
        check(INT8, items=2 * ITEMS, **TWO_STAGE, two_stage={"int8": False})
    with pytest.raises(KuberecError, match="leave the step out, or distil it before this step to"):
        check(INT8, items=10 * ITEMS, **TWO_STAGE)


@pytest.mark.parametrize("scoring", ["exact", "two-stage"])
def test_the_bytes_are_those_of_the_graph(scoring, tmp_path) -> None:
    model, path = random_model(TINY), tmp_path / "ranker.onnx"
    cells = TwoStageConfig(cell_items=8, probes=ITEMS)
    export = ExportConfig(k=10, max_seen=20, scoring=scoring, two_stage=cells)
    if scoring == "exact":
        export_ranker(model, path, export.k, export.max_seen)
    else:
        export_two_stage(model, path, export)
    wide = {ITEMS + 1, TINY.dim}
    tables = [each for each in onnx.load(path).graph.initializer if set(each.dims) == wide]
    found = sum(numpy_helper.to_array(each).nbytes for each in tables)
    assert found == item_bytes(export, ITEMS + 1, TINY.dim)


@pytest.mark.usefixtures("small_files")
def test_a_compression_says_so_before_its_first_step(tmp_path) -> None:
    (tmp_path / "model").mkdir()
    save_model(random_model(), vocabulary(), tmp_path / "model")
    windows = write_windows(tmp_path / "windows")
    told: list[str] = []
    with pytest.raises(KuberecError, match=r"steps\.1 \(quantise\): .* bytes of it"):
        compress(
            tmp_path / "model",
            windows,
            CompressionConfig.model_validate({"steps": [PRUNE, INT8]}),
            ExportConfig(k=10, max_seen=20),
            tmp_path / "out",
            lambda done, total, message="": told.append(message),
        )
    assert told == []


def test_the_step_before_training_fails_with_it(tmp_path, capsys) -> None:
    write_json(tmp_path / "vocabulary.json", vocabulary())
    windows = SimpleNamespace(path=str(tmp_path))
    shape = ModelConfig().model_dump(mode="json", exclude_none=True)
    with pytest.raises(SystemExit) as ended:  # by the settings' defaults
        component.python_func(model=shape, compression={}, export={}, windows=windows)
    assert ended.value.code == 1
    assert "[kuberec:error] export.k = 100 is more than the 30 items" in capsys.readouterr().out
    component.python_func(model=shape, compression={}, export={"k": 30}, windows=windows)
    assert "go with 30 items" in capsys.readouterr().out
