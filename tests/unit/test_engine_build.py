"""Building where nothing can be built, and what becomes of an engine once it is.

A fake `tensorrt` stands in for the errors of the builder alone; the real one is in the GPU lane,
tests/tensorrt.
"""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_version import catalogue, write_tiny_version
from typer.testing import CliRunner

from pipelines.cli import app
from recommender.agreement import Answers
from recommender.errors import GateFailed
from recommender.files import read_json, sha256_tree
from serving.handover import answers
from serving.triton.engine import builder
from serving.triton.engine.build import build_engine, finish, golden_inputs
from serving.triton.engine.plan import plan_engine
from serving.triton.engine.record import ENGINES, EngineError, plan_name
from serving.version import load_version

ROOT = Path(__file__).resolve().parents[2]
PLAN = plan_name("8.9")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("sealed") / "v1", catalogue(), "v1")


@pytest.fixture
def version(sealed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sealed, tmp_path / "place/v1")


def test_without_tensorrt_it_says_what_for_and_how(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("tensorrt"):  # a machine that has it must say the same without
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    before = sha256_tree(version)
    with pytest.raises(EngineError) as absent:
        build_engine(version)
    said = str(absent.value)
    for part in (
        "the package 'tensorrt' is absent",
        "an engine of a version's ranker for one kind of GPU",
        "python -m pip install 'tensorrt==11.1.*' (Python 3.10 to 3.14",
        "--model-config-name=gpu: ONNX Runtime's TensorRT provider then builds one",
    ):
        assert part in said
    assert sha256_tree(version) == before
    assert [path.name for path in version.parent.iterdir()] == ["v1"]
    shown = CliRunner().invoke(app, ["engine", str(version), "--precision", "fp16"])
    assert isinstance(shown.exception, EngineError)


def test_the_release_is_that_of_the_servers_image() -> None:
    dockerfile = (ROOT / "images/triton/Dockerfile").read_text()
    assert f"TensorRT {builder.SERVER_TENSORRT} " in dockerfile


@dataclass
class ParserError:
    """tensorrt.ParserError's getters."""

    number: int

    def node(self) -> int:
        return self.number

    def node_name(self) -> str:
        return f"node_{self.number}"

    def node_operator(self) -> str:
        return "ScatterElements"

    def desc(self) -> str:
        return f"no importer for attribute {self.number}"


def fake_tensorrt(parses: bool) -> Any:
    """What `builder.build` calls, with a parser that fails or a builder that finds nothing."""
    module: Any = ModuleType("tensorrt")

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda *args, **more: Anything()

        def __bool__(self) -> bool:
            return True

    class Severity:
        WARNING = 2

    class ILogger:
        pass

    class Parser(Anything):
        num_errors = 2
        parse = staticmethod(lambda content: parses)
        get_error = staticmethod(lambda number: ParserError(number + 7))

    class Builder(Anything):
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def build_serialized_network(self, network: Any, config: Any) -> None:
            self.logger.log(1, "[E] no tactic fits into 1 MiB")
            self.logger.log(3, "chatter")

    ILogger.Severity = Severity  # type: ignore[attr-defined]
    module.__version__ = "11.1.0"
    module.ILogger, module.Builder = ILogger, Builder
    module.OnnxParser = lambda network, logger: Parser()
    module.NetworkDefinitionCreationFlag = type("Flag", (), {"STRONGLY_TYPED": 1})
    module.MemoryPoolType = type("Pool", (), {"WORKSPACE": 0})
    module.BuilderFlag = type("BuilderFlag", (), {"SPARSE_WEIGHTS": 7})
    return module


@pytest.mark.parametrize(
    ("parses", "says"),
    [
        (False, "node_7 (ScatterElements, node 7): no importer for attribute 7\n  node_8"),
        (True, "The end of its log:\n[E] no tactic fits into 1 MiB\nOut of memory"),
    ],
)
def test_what_the_builder_refuses_is_said(
    parses: bool, says: str, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(parses))
    device = builder.Device("NVIDIA L4", "8.9", "11.1.0")
    monkeypatch.setattr("serving.triton.engine.build.find_device", lambda: device)
    before = sha256_tree(version)
    with pytest.raises(EngineError) as refused:
        build_engine(version)
    assert says in str(refused.value)
    assert "chatter" not in str(refused.value)
    assert sha256_tree(version) == before
    assert [path.name for path in version.parent.iterdir()] == ["v1"]


def test_a_gpu_that_the_versions_config_does_not_name(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = builder.Device("NVIDIA B999", "13.0", "11.1.0")
    monkeypatch.setattr("serving.triton.engine.build.find_device", lambda: device)
    with pytest.raises(EngineError, match=r"B999 has compute capability 13\.0; the version's"):
        build_engine(version)


def test_without_a_gpu_it_says_so(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(parses=True))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineError, match=r"torch sees no CUDA GPU.*On a node with that GPU"):
        build_engine(version)


def ended(version: Path, found: Answers) -> dict[str, Any]:
    loaded = load_version(version)
    scratch = version.parent / ".engine-test"
    scratch.mkdir()
    about = {"version": "v1", "compute_capability": "8.9"}
    plan = plan_engine(loaded, "fp16")
    return finish(loaded, plan, b"an engine", found, PLAN, about, scratch)


def test_an_engine_that_answers_alike_comes_to_the_version(version: Path) -> None:
    loaded = load_version(version)
    entry = ended(version, answers(plan_engine(loaded).exact, *golden_inputs(loaded)))
    assert read_json(version / ENGINES)["engines"] == {PLAN: entry}
    row = entry["parity"]
    assert (row["link"], row["to"], row["top_k_overlap"]) == ("tensorrt", "TensorRT fp16", 1.0)
    assert all(check["passed"] for check in entry["checks"])
    assert load_version(version).version == "v1"


def test_an_engine_that_answers_otherwise_does_not(version: Path) -> None:
    loaded, before = load_version(version), sha256_tree(version)
    expected = answers(plan_engine(loaded).exact, *golden_inputs(loaded))
    others = Answers(40 - expected.ids_BK, np.flip(expected.scores_BK, axis=1))
    with pytest.raises(GateFailed, match=r"TensorRT fp16, limits export\.parity\.tensorrt"):
        ended(version, others)
    assert sha256_tree(version) == before
