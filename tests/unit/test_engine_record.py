"""Engines beside a sealed version: what verifies, what does not, and after a kill."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_version import catalogue, write_tiny_version

from recommender.files import read_json, sha256_file, write_json
from serving.kubernetes.model_store import publish
from serving.triton.engine.record import ENGINES, EngineError, install, plan_name, read_engines
from serving.version import VersionError, load_version

PLAN = plan_name("8.9")
ABOUT = {"version": "v1", "compute_capability": "8.9", "tensorrt": "11.1.0", "precision": "fp16"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("sealed") / "v1", catalogue(), "v1")


@pytest.fixture
def version(sealed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sealed, tmp_path / "v1")


def built(version: Path, content: bytes = b"an engine", name: str = PLAN) -> None:
    scratch = version.parent / ".engine-scratch"
    scratch.mkdir(exist_ok=True)
    (scratch / "engine.plan").write_bytes(content)
    install(version, scratch, scratch / "engine.plan", name, ABOUT)


def test_a_version_with_engines_is_the_version_that_was_sealed(version: Path) -> None:
    files = load_version(version).files
    built(version)
    built(version, b"another", plan_name("12.0"))
    built(version, b"a better one")
    assert load_version(version).files == files
    assert (version / PLAN).read_bytes() == b"a better one"
    entries = read_engines(version)
    assert entries[PLAN] == ABOUT | {"sha256": sha256_file(version / PLAN)}
    assert entries.keys() == {PLAN, plan_name("12.0")}


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tampered": (lambda v: (v / PLAN).write_bytes(b"an enginE"), f"changed: {PLAN}"),
    "truncated": (lambda v: (v / PLAN).write_bytes(b"an engin"), f"changed: {PLAN}"),
    "missing": (lambda v: (v / PLAN).unlink(), f"missing: {PLAN}"),
    "unknown": (
        lambda v: (v / plan_name("9.0")).write_bytes(b"?"),
        f"not part of it: {plan_name('9.0')}",
    ),
    "no record": (lambda v: (v / ENGINES).unlink(), f"not part of it: {PLAN}"),
    "no JSON": (lambda v: (v / ENGINES).write_text("{"), "says nothing of engines"),
    "no engines": (lambda v: write_json(v / ENGINES, {"engines": [PLAN]}), "says nothing of"),
    "extra": (lambda v: (v / "ranker/1/model.py").touch(), "not part of it: ranker/1/model.py"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_engine_is_refused_with_the_version(damage: str, version: Path) -> None:
    built(version)
    does, says = DAMAGES[damage]
    does(version)
    with pytest.raises(VersionError) as refused:
        load_version(version)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "name", ["ranker/2/model.onnx", "ranker/config.pbtxt", "../model_8.9.plan"]
)
def test_an_engines_json_vouches_for_no_other_file(name: str, version: Path) -> None:
    (version / name).parent.mkdir(exist_ok=True)
    (version / name).write_bytes(b"evil")
    entry = ABOUT | {"sha256": sha256_file(version / name)}
    write_json(version / ENGINES, {"engines": {name: entry}})
    with pytest.raises(VersionError, match="no engine: delete it"):
        load_version(version)
    with pytest.raises(EngineError, match="no engine"):
        read_engines(version)


def test_an_engine_of_another_version_is_refused(version: Path) -> None:
    built(version)
    entries = read_json(version / ENGINES)["engines"]
    entries[PLAN]["version"] = "v0"
    write_json(version / ENGINES, {"engines": entries})
    with pytest.raises(VersionError, match=r"of another version \(v0\): " + PLAN):
        load_version(version)


@pytest.mark.parametrize("earlier", [None, b"the engine before"])
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_version_verifies_whenever_a_build_is_killed(
    earlier: bytes | None, renames: int, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if earlier:
        built(version, earlier)
    done, replace = [], Path.replace

    def killed(source: Path, target: Path) -> Path:
        if target.parent in (version, version / "ranker/1"):
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(target)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        built(version, b"the engine that came")
    monkeypatch.undo()
    load_version(version)
    there = (version / PLAN).read_bytes() if (version / PLAN).is_file() else None
    assert there == (b"the engine that came" if renames == 2 else earlier)
    built(version, b"the engine that came")
    assert read_engines(version)[PLAN] == ABOUT | {"sha256": sha256_file(version / PLAN)}


def test_engines_are_published_with_their_version_also_later_ones(
    version: Path, tmp_path: Path
) -> None:
    registry, mount = tmp_path / "registry.db", tmp_path / "mount"
    registry.write_bytes(b"recommend_v1")
    mount.mkdir()
    built(version)
    publish(version, registry, "pvc://models", mount)
    there = mount / "v1"
    assert (there / PLAN).read_bytes() == b"an engine"
    # Another node built for its kind of GPU, from a copy that lacks this one.
    elsewhere = shutil.copytree(version, tmp_path / "elsewhere/v1")
    (elsewhere / PLAN).unlink()
    (elsewhere / ENGINES).unlink()
    built(elsewhere, b"for Hopper", plan_name("9.0"))
    publish(elsewhere, None, "pvc://models", mount)
    load_version(there)
    assert read_engines(there).keys() == {PLAN, plan_name("9.0")}
    assert {path.name for path in mount.iterdir()} == {"v1"}
    (there / PLAN).write_bytes(b"tampered")
    with pytest.raises(VersionError, match=f"changed: {PLAN}"):
        publish(version, None, "pvc://models", mount)
